"""Names from a real debuginfod server: a stripped program, its debug file, and then neither on this machine."""

import os
import shutil
import subprocess
import urllib.error
import urllib.request

import tracing

PROGRAM = """
#include <stdlib.h>
static void* volatile kept[100];
__attribute__((noinline)) static void LeakInStripped(int number) { kept[number] = malloc(1000); }
int main(void) {
  for (int i = 0; i < 100; ++i) LeakInStripped(i);
  return 0;
}
"""
LEAK_LINE = 4


class DebuginfodTest(tracing.TestCase):

    @classmethod
    def setUpClass(cls):
        for program in ("debuginfod", "gcc", "objcopy", "strip"):
            if shutil.which(program) is None:
                raise tracing.unittest.SkipTest(f"{program} is not installed")
        cls.all = tracing.temporary_folder("debuginfod")
        cls.program = os.path.join(cls.all, "bin", "stripped")
        served = os.path.join(cls.all, "served")
        os.makedirs(os.path.dirname(cls.program))
        os.makedirs(served)
        source = os.path.join(cls.all, "stripped.c")
        with open(source, "w", encoding="utf-8") as file:
            file.write(PROGRAM)
        for command in (["gcc", "-g", "-O1", "-fno-optimize-sibling-calls", "-Wl,--build-id", "-o", cls.program, source],
                        ["objcopy", "--only-keep-debug", cls.program, os.path.join(served, "stripped.debug")],
                        ["strip", cls.program]):
            done = tracing.run(command)
            assert done.status == 0, done.stderr
        shutil.copy(cls.program, os.path.join(served, "stripped"))
        cls.session = os.path.join(cls.all, "session")
        done = tracing.run([cls.program], tracing.traced_environment(cls.session))
        assert done.status == 0, done.stderr
        port = tracing.free_port()
        cls.url = f"http://127.0.0.1:{port}"
        cls.server = subprocess.Popen(["debuginfod", "-p", str(port), "-d", ":memory:", "-F", served],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        build_id = cls.build_id(cls.program)
        try:
            for kind in ("debuginfo", "executable"):
                tracing.wait_until(lambda: cls.has(f"{cls.url}/buildid/{build_id}/{kind}"), f"the server has the {kind}")
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        tracing.end_process(cls.server)

    @staticmethod
    def build_id(program):
        notes = tracing.run(["readelf", "-n", program]).stdout.decode()
        return notes.split("Build ID:")[1].split()[0]

    @staticmethod
    def has(url):
        try:
            with urllib.request.urlopen(url) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def ask(self, cache, url, *options):
        """The JSON of the report, and its text."""
        settings = tracing.plain_environment(DEBUGINFOD_URLS=url, DEBUGINFOD_CACHE_PATH=cache, DEBUGINFOD_TIMEOUT="20")
        settings.pop("DEBUGINFOD_PROGRESS", None)
        done = tracing.leakview("report", "--format=json", *options, self.session, environment=settings)
        self.assertEqual((done.status, done.stderr), (0, ""))
        text = tracing.leakview("report", *options, self.session, environment=settings)
        return tracing.json.loads(done.stdout), text.stdout

    def leak(self, report):
        return report["groups"][0]["frames"][report["groups"][0]["blamed_frame"]]

    def assert_named(self, report):
        frame = self.leak(report)
        self.assertEqual((frame["function"], os.path.basename(frame["file"] or ""), frame["line"]),
                         ("LeakInStripped", "stripped.c", LEAK_LINE))

    def test_debug_file_from_the_server_and_then_from_the_cache(self):
        cache = self.folder()
        self.assertIsNone(self.leak(self.ask(cache, self.url, "--no-debuginfod")[0])["function"])
        self.assertEqual(os.listdir(cache), [])
        self.assert_named(self.ask(cache, self.url)[0])
        # Kept by the client: nobody needs to answer any more.
        self.assert_named(self.ask(cache, f"http://127.0.0.1:{tracing.free_port()}")[0])

    def test_program_is_not_on_this_machine(self):
        hidden = self.program + ".away"
        os.rename(self.program, hidden)
        try:
            report, _ = self.ask(self.folder(), self.url)
            self.assert_named(report)
            nothing, text = self.ask(self.folder(), "")
            self.assertIsNone(self.leak(nothing)["function"])
            self.assertIn("no such file", text)
        finally:
            os.rename(hidden, self.program)

    def test_server_that_does_not_answer(self):
        report, text = self.ask(self.folder(), f"http://127.0.0.1:{tracing.free_port()}")
        self.assertIsNone(self.leak(report)["function"])
        self.assertEqual(text.count("debuginfod: "), 1, text)
        self.assertIn("asked no more", text)


if __name__ == "__main__":
    tracing.main()
