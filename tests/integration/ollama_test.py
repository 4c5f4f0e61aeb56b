"""A real `ollama serve`, when OLLAMA_BIN names one: the tiny model is created, asked 50 times, unloaded.

Nothing is pulled; the server's home, models and port are the test's own. Works with releases whose runner is
`ollama runner` (cgo) and with those that start llama-server.
"""

import glob
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request

import tracing

GENERATES = 50


def children_of(pid):
    """The processes that `pid` has started and that live, from /proc."""
    children = set()
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                if int(file.read().rsplit(")", 1)[1].split()[1]) == pid:
                    children.add(int(path.split("/")[2]))
        except (OSError, IndexError):
            pass  # it has ended
    return children


class OllamaTest(tracing.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.ollama = os.environ.get("OLLAMA_BIN", "")
        if not os.access(cls.ollama, os.X_OK):
            raise tracing.unittest.SkipTest("OLLAMA_BIN names no ollama program")

    def call(self, path, body=None):
        request = urllib.request.Request(
            f"http://{self.host}{path}", None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=tracing.COMMAND_SECONDS) as answer:
            return json.load(answer)

    def start(self, folder, session, log):
        for _ in range(5):  # somebody else may take the port in between
            self.host = f"127.0.0.1:{tracing.free_port()}"
            self.own = {"HOME": folder, "OLLAMA_HOST": self.host, "OLLAMA_MODELS": os.path.join(folder, "models"),
                        "OLLAMA_NUM_PARALLEL": "1", "OLLAMA_LOAD_TIMEOUT": "3m", "OLLAMA_KEEP_ALIVE": "30m"}
            server = subprocess.Popen([self.ollama, "serve"], env=tracing.traced_environment(session, **self.own),
                                      stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

            def answers():
                if server.poll() is not None:
                    return True
                try:
                    return self.call("/api/version")
                except (urllib.error.URLError, OSError, ValueError):
                    return None
            tracing.wait_until(answers, "ollama serve answers")
            if server.poll() is None:
                return server
        self.fail("ollama serve ended at its start")

    def test_serve(self):
        folder = self.folder()
        session = os.path.join(folder, "session")
        model = os.path.join(folder, "tiny.gguf")
        self.assertEqual(tracing.run([sys.executable, tracing.TINY_MODEL, model]).status, 0)
        with open(os.path.join(folder, "Modelfile"), "w", encoding="utf-8") as file:
            file.write("FROM ./tiny.gguf\nPARAMETER num_ctx 256\nPARAMETER num_thread 1\n")
        with open(os.path.join(folder, "serve.log"), "w+b") as log:
            server = self.start(folder, session, log)
            try:
                created = tracing.run([self.ollama, "create", "tiny", "-f", "Modelfile"],
                                      tracing.plain_environment(**self.own), folder)
                self.assertEqual(created.status, 0, created.stderr)
                for number in range(GENERATES):
                    answer = self.call("/api/generate", {
                        "model": "tiny", "prompt": f"request {number}", "raw": True, "stream": False,
                        "options": {"num_predict": 8, "seed": 1, "num_ctx": 256, "num_thread": 1}})
                    self.assertTrue(answer["done"], answer)
                children = children_of(server.pid)
                running = tracing.report(session)
                self.call("/api/generate", {"model": "tiny", "keep_alive": 0, "stream": False})
                tracing.wait_until(lambda: not self.call("/api/ps")["models"], "the model is unloaded")
            except BaseException:
                log.flush()
                log.seek(0)
                print(log.read()[-6000:].decode("utf-8", "replace"))
                raise
            finally:
                status = tracing.end_process(server)
        self.assertEqual(status, 0)
        report = tracing.report(session)
        everyone = [(p["pid"], p["ppid"], p["exe"], p["argv"], p["end"]) for p in report["processes"]]
        self.assert_nothing_lost(report)
        for process in report["processes"]:
            self.assertIn(process["end"], ("exited", "killed", "exec"), process)
        serve = tracing.last_image(report, server.pid)
        self.assertIn("serve", serve["argv"])
        self.assertGreater(serve["host"]["allocations"], 0)
        self.assert_accounted(serve)
        self.assertIn("go_heap", self.assert_accounted(tracing.last_image(running, server.pid)))
        # Go's heap comes from mmap, below the runtime; the names stand in .gopclntab alone, as the program is stripped.
        self.assert_names(report, [serve], [r"^runtime\.", r"\(\*mheap\)\."])

        # Whoever lived beside the server while it answered is there.
        self.assertTrue(children)
        self.assertLessEqual(children, {p["pid"] for p in report["processes"] if p["ppid"] == server.pid}, everyone)
        runners = [p for p in report["processes"] if p["ppid"] == server.pid and p["end"] != "exec"
                   and ("llama-server" in p["exe"] or "runner" in p["argv"]) and p["host"]["live_bytes"] > 400_000]
        self.assertTrue(runners, everyone)
        self.assertEqual({p["end"] for p in runners}, {"killed"}, everyone)
        for runner in runners:
            for process in (tracing.last_image(running, runner["pid"]), runner):
                self.assert_accounted(process)
        self.assert_names(report, runners, [r"llama_", r"ggml_"])

    def assert_names(self, report, processes, patterns):
        pids = {p["pid"] for p in processes}
        names = {f["function"] for g in report["groups"] if g["pid"] in pids for f in g["frames"] if f["function"]}
        for pattern in patterns:
            self.assertTrue([n for n in names if re.search(pattern, n)], f"no frame of {pattern}: {sorted(names)[:80]}")


if __name__ == "__main__":
    tracing.main()
