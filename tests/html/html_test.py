"""`ollama-leakview html` of a real session, and of 50 000 groups, in a real Chromium (look.mjs has the checks)."""

import json
import os
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))

import tracing  # noqa: E402

sys.path.insert(0, os.path.join(tracing.SOURCE, "tests", "gpu"))
import gpu  # noqa: E402

DRIVE = os.path.join(tracing.SOURCE, "examples", "leaky_server", "drive.py")
LOOK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "look.mjs")
PAGE = os.path.join(tracing.BUILD, "analyzer", "html", "page")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NODE = shutil.which("node") or shutil.which("nodejs")


def record(folder, leaks):
    """A session of leaky_server with marks."""
    session = os.path.join(folder, leaks.replace(",", "-"))
    done = tracing.run([sys.executable, DRIVE, "--requests", "150", "--leak", leaks,
                        "--marks", os.path.join(session, "marks.jsonl"), "--env", f"LD_PRELOAD={tracing.LIB}",
                        "--env", f"OLLAMATRACE_DIR={session}", "--", tracing.LEAKY_SERVER, "--port=0"])
    assert done.status == 0, done.stdout + done.stderr
    return session


class HtmlTest(tracing.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.all = tracing.temporary_folder("html")
        cls.session = record(cls.all, "all")

    def html(self, *arguments):
        path = os.path.join(self.folder(), "report.html")
        done = tracing.leakview("html", *arguments, "-o", path)
        self.assertEqual((done.status, done.stdout, done.stderr), (0, "", ""))
        self.assertEqual(os.listdir(os.path.dirname(path)), ["report.html"])
        return path

    def look(self, **paths):
        """Runs look.mjs; its own output tells what failed."""
        if not os.path.exists(os.path.join(PAGE, "page.html")):
            self.skipTest("built without the page: no npm")
        if CHROMIUM is None or NODE is None:
            self.skipTest("no chromium or no node")
        shots = os.environ.get("OLLAMATRACE_SCREENSHOTS") or self.folder()
        settings = {"PAGE": PAGE, "CHROMIUM": CHROMIUM, "SCREENSHOTS": shots, **paths}
        done = subprocess.run([NODE, "--test", "--test-reporter=spec", LOOK], env={**tracing.plain_environment(), **settings},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)

    def record_gpu(self):
        """A session with two GPUs by the fake driver; None where GPU capture was not built."""
        program = os.path.join(gpu.DIR, "gpu_script")
        if not os.path.exists(program):
            return None
        script = ["init", "context a 0", "context b 1", "current a", f"reserve pool {32 << 30}"]
        at = 0
        for number, size in enumerate((2 << 20, 4 << 20, 32 << 20)):
            script += [f"create h{number} {size} 0", f"map m{number} pool {at} h{number} {size}", f"release h{number}"]
            at += size
        script += ["device weights 4000000000", "fail 2", "device more 90000000000", "current b", "device z 700000000",
                   "device y 500000000", "free y", "fail 4", "free z", "destroy b"]
        path = os.path.join(self.folder(), "script")
        with open(path, "w", encoding="ascii") as file:
            file.write("\n".join(script) + "\n")
        session = os.path.join(self.folder(), "gpu")
        done = tracing.run([program, path], tracing.traced_environment(session, OLLAMATRACE_CUPTI=gpu.CUPTI))
        self.assertEqual(done.status, 0, done)
        return session

    def json(self, session):
        path = os.path.join(self.folder(), "report.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(tracing.report(session), file)
        return path

    def test_in_a_browser(self):
        before = record(self.all, "once")
        pages = {"REPORT": self.html(self.session), "JSON": self.json(self.session),
                 "DIFF": self.html("--baseline", before, self.session)}
        with_gpu = self.record_gpu()
        if with_gpu is not None:
            pages.update(GPU=self.html(with_gpu), GPU_JSON=self.json(with_gpu))
        self.look(**pages)

    def test_bad_arguments(self):
        for arguments, words in ((["html", self.session], "no file to write to"), (["html", "-o", "x.html"], "no trace"),
                                 (["html", self.session, "--format=json", "-o", "x"], "--format")):
            done = tracing.leakview(*arguments)
            self.assertEqual(done.status, 2, arguments)
            self.assertIn(words, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)

    def test_a_file_that_cannot_be_written(self):
        for path in ("/nonexistent/report.html", "/dev/full"):
            done = tracing.leakview("html", self.session, "-o", path)
            self.assertEqual(done.status, 3, path)
            self.assertIn("cannot write", done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)


if __name__ == "__main__":
    unittest.TestCase.longMessage = True
    tracing.main()
