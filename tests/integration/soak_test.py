"""`soak`: leaky_server and servers that misbehave, llama.cpp's own server, `ollama serve` when OLLAMA_BIN names one."""

import json
import os
import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree

import llama_server
import tracing

FAKE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_ollama.py")
QUICK = ["--warm-up=1s", "--idle=1s", "--settle=200ms"]


class SoakCase(tracing.TestCase):

    def soak(self, status, *arguments, environment=None):
        """Runs a soak into a fresh session; what it said, and its figures."""
        self.session = os.path.join(self.folder(), "session")
        done = tracing.leakview("soak", "-o", self.session, *arguments, environment=environment)
        self.assertEqual(done.status, status, done.stdout + done.stderr + self.log())
        return done

    def log(self):
        try:
            with open(os.path.join(self.session, "server.log"), encoding="utf-8", errors="replace") as file:
                return file.read()[-3000:]
        except OSError:
            return ""

    def figures(self):
        with open(os.path.join(self.session, "soak.json"), encoding="utf-8") as file:
            answer = json.load(file)
        self.assertEqual(answer["schema"], "ollama-leakview/soak/1")
        return answer

    def marks(self):
        with open(os.path.join(self.session, "marks.jsonl"), encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def one_line(self, status, *arguments, environment=None):
        done = tracing.leakview("soak", "-o", os.path.join(self.folder(), "session"), *arguments, environment=environment)
        self.assertEqual(done.status, status, done.stdout + done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr


    def assert_planted_leak_is_found(self, *command, environment=None):
        """With a leak in a function that llama.cpp calls for each completion (tests/programs/planted_leak.cc), the soak fails,
        and every format names function and line."""
        library = os.path.join(tracing.BUILD, "tests", "programs", "libplanted_leak.so")
        self.assertTrue(os.path.exists(library))
        files = {name: os.path.join(self.folder(), name) for name in ("junit", "sarif", "markdown")}
        done = self.soak(1, *[f"--write={name}={path}" for name, path in files.items()], *command,
                         environment=dict(environment or tracing.plain_environment(), LD_PRELOAD=library,
                                          PLANTED_LEAK_BYTES="3000"))
        self.assertRegex(done.stdout, r"leak \(\S+ sure\) in llama_sampler_chain_init \(planted_leak\.cc:\d+\)")
        texts = {name: open(path, encoding="utf-8").read() for name, path in files.items()}
        for name in ("junit", "markdown"):
            self.assertRegex(texts[name], r"llama_sampler_chain_init.*planted_leak\.cc:\d+", name)
        (failed,) = xml.etree.ElementTree.fromstring(texts["junit"]).findall(".//failure")
        self.assertIn("planted_leak.cc", failed.text)
        (result,) = json.loads(texts["sarif"])["runs"][0]["results"]  # nothing else is blamed
        self.assertIn("llama_sampler_chain_init", result["message"]["text"])
        place = result["locations"][0]["physicalLocation"]
        self.assertTrue(place["artifactLocation"]["uri"].endswith("planted_leak.cc"), place)
        self.assertGreater(place["region"]["startLine"], 1)


class LeakyServerTest(SoakCase):

    def leaky(self, *options):
        return ["--model=leaky", "--requests=120", *QUICK, *options, "--", tracing.LEAKY_SERVER, "--port=0"]

    def test_clean(self):
        done = self.soak(0, *self.leaky("--stream"))
        self.assertIn("soak: done", done.stdout)
        self.assertIn("none of ", done.stdout)
        figures = self.figures()
        self.assertEqual(figures["outcome"], "done")
        self.assertEqual(figures["server_end"], "exit code 0")
        self.assertEqual([phase["name"] for phase in figures["phases"]],
                         ["load", "warm-up", "steady", "idle", "unload"])
        steady = figures["phases"][2]
        self.assertEqual((steady["requests"], steady["answered"], steady["failed"]), (120, 120, 0))
        self.assertEqual(steady["tokens"], 120 * 16)
        latency = steady["latency_ms"]
        self.assertLessEqual(latency["p50"], latency["p99"])
        self.assertLessEqual(latency["p99"], latency["max"])
        marks = self.marks()
        requests = [mark for mark in marks if mark["mark"] == "request"]
        self.assertEqual([mark["name"] for mark in marks if mark["mark"] == "phase"],
                         ["load", "warm-up", "steady", "idle", "unload", "end"])
        self.assertEqual(len({mark["n"] for mark in requests}), len(requests))
        for mark in requests:
            self.assertLess(mark["start"], mark["t"])
            self.assertEqual((mark["status"], mark["tokens"]), (200, 16))
        report = tracing.report(self.session)
        self.assert_nothing_lost(report)
        self.assertEqual(report["session"]["requests"], len(requests))

    def test_leak(self):
        folder = self.folder()
        files = {name: os.path.join(folder, name) for name in ("junit", "sarif", "markdown")}
        self.soak(1, *self.leaky(*[f"--write={name}={path}" for name, path in files.items()]), "--leak=request")
        texts = {name: open(path, encoding="utf-8").read() for name, path in files.items()}
        self.assertRegex(texts["markdown"], r"leaks\.cc:\d+")
        self.assertIn("CopyPrompt", texts["markdown"])
        failure = xml.etree.ElementTree.fromstring(texts["junit"]).find(".//failure")
        self.assertRegex(failure.text, r"CopyPrompt.*leaks\.cc:\d+")
        result = json.loads(texts["sarif"])["runs"][0]["results"][0]
        self.assertIn("leaks.cc", result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])

    def test_cycles_with_a_rate(self):
        self.soak(0, "--model=leaky", "--requests=40", "--rate=40", "--workers=4", "--cycles=2", *QUICK,
                  "--", tracing.LEAKY_SERVER, "--port=0")
        phases = self.figures()["phases"]
        self.assertEqual([phase["name"] for phase in phases],
                         ["load", "warm-up", "steady", "idle", "unload", "reload", "warm-up", "steady", "idle", "unload"])
        for steady in (phases[2], phases[7]):
            self.assertEqual(steady["answered"], 40)
            self.assertGreater(steady["seconds"], 0.95)  # the 40th is due after 39/40 s


class MisbehavingTest(SoakCase):

    def fake(self, *options, behaviour=()):
        return ["--model=tiny", "--requests=60", "--no-check", *QUICK, "--warm-up=0", *options, "--", sys.executable, FAKE,
                *behaviour]

    def test_every_api(self):
        for api, tokens in (("generate", 3), ("chat", 3), ("embed", 4), ("openai-chat", 5), ("openai-completion", 5)):
            for stream in ((), ("--stream",)):
                with self.subTest(api=api, stream=stream):
                    self.soak(0, *self.fake(f"--api={api}", *stream, "--prompts=mixed", "--requests=12", "--idle=0"))
                    steady = self.figures()["phases"][1]
                    self.assertEqual((steady["answered"], steady["tokens"]), (12, 12 * tokens))

    def test_llama_server_ends_and_comes_again(self):
        self.soak(0, *self.fake("--server=llama-server", "--cycles=2"))
        self.assertEqual(len({mark["n"] for mark in self.marks() if mark["mark"] == "request"}), 120)

    def test_dies(self):
        done = self.soak(1, *self.fake(behaviour=["--die-after=20"]))
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn("terminate called after throwing", done.stderr)
        figures = self.figures()
        self.assertEqual(figures["outcome"], "server-died")
        self.assertIn("signal 6", figures["server_end"])
        self.assertEqual(figures["phases"][-1]["answered"], 20)

    def test_hangs(self):
        self.soak(1, *self.fake("--request-timeout=1s", "--workers=1", "--requests=6", behaviour=["--hang-after=5"]))
        figures = self.figures()
        self.assertEqual(figures["outcome"], "server-hung")
        self.assertGreaterEqual(figures["phases"][-1]["timed_out"], 1)

    def test_answers_errors(self):
        self.soak(1, *self.fake(behaviour=["--fail-after=10"]))
        figures = self.figures()
        self.assertEqual(figures["outcome"], "errors")
        self.assertIn("50 of 60 requests failed", figures["evidence"])
        self.assertIn("HTTP 500: out of memory", figures["evidence"])
        self.assertEqual(len([mark for mark in self.marks() if mark["mark"] == "request"]), 10)

    def test_gives_up_when_nothing_works(self):
        self.soak(1, *self.fake("--requests=100000", behaviour=["--fail-after=0"]))
        self.assertLess(self.figures()["phases"][-1]["requests"], 100)

    def test_answers_that_break_off(self):
        self.soak(1, *self.fake("--stream", behaviour=["--cut-after=50"]))
        self.assertIn("no whole answer", self.figures()["evidence"])

    def test_errors_that_may_be(self):
        self.soak(0, *self.fake("--max-errors=20%", behaviour=["--fail-after=55"]))

    def test_interrupted(self):
        session = os.path.join(self.folder(), "session")
        command = self.fake("--duration=1h")
        command.remove("--requests=60")
        soak = subprocess.Popen([tracing.LEAKVIEW, "soak", "-o", session, *command], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=tracing.plain_environment())
        marks = os.path.join(session, "marks.jsonl")
        tracing.wait_until(lambda: os.path.exists(marks) and '"request"' in open(marks, encoding="utf-8").read(),
                           "a request was answered")
        soak.send_signal(signal.SIGINT)
        _, errors = soak.communicate(timeout=tracing.COMMAND_SECONDS)
        self.assertEqual(soak.returncode, 1)
        self.assertIn(b"interrupted", errors)

    def test_what_cannot_begin(self):
        port = tracing.free_port()
        self.assertIn(f"http://127.0.0.1:{port}: unreachable",
                      self.one_line(2, "--model=tiny", f"--url=http://127.0.0.1:{port}"))
        self.assertIn("model 'nobody' not found",
                      self.one_line(2, "--model=nobody", "--", sys.executable, FAKE))
        self.assertIn("no such program", self.one_line(2, "--model=tiny", "--", "/no/such/server"))
        self.assertIn("ended before it answered, exit code 7; its last words: cannot serve",
                      self.one_line(2, "--model=tiny", "--", "sh", "-c", "echo cannot serve; exit 7"))
        self.assertIn("no server", self.one_line(2, "--model=tiny"))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.assertIn(f"port {port} is in use",
                          self.one_line(2, "--model=tiny", f"--port={port}", "--", sys.executable, FAKE))

    def test_another_server(self):
        session = os.path.join(self.folder(), "session")
        server = subprocess.Popen([sys.executable, FAKE], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                  env=tracing.traced_environment(session))
        try:
            url = "http://" + server.stdout.readline().split()[-1]
            done = tracing.leakview("soak", "--url", url, "-o", session, "--model=tiny", "--requests=40", *QUICK)
            self.assertEqual(done.status, 0, done.stdout + done.stderr)
            with open(os.path.join(session, "soak.json"), encoding="utf-8") as file:
                self.assertEqual(json.load(file)["server_end"], None)
            self.assertIsNone(server.poll())
        finally:
            tracing.end_process(server)
            server.stdout.close()


class LlamaServerTest(SoakCase):
    """llama.cpp's server inside the wheel's extension module."""

    @classmethod
    def setUpClass(cls):
        cls.program = llama_server.wheel_python()
        if cls.program is None:
            raise tracing.unittest.SkipTest(f"pip cannot fetch {llama_server.PACKAGE} here")
        cls.model = llama_server.tiny_model()

    def command(self, *options):
        return ["--server=llama-server", "--requests=120", "--warm-up=2s", "--idle=1s", "--settle=200ms", "--tokens=8",
                *options, "--", self.program, llama_server.MAIN, self.model]

    def test_clean_and_the_prompt_cache_fills(self):
        """Distinct prompts fill llama-server's prompt cache: that is told, and forgiven."""
        done = self.soak(0, *self.command())
        self.assertNotIn("BROKEN", done.stdout)
        self.assertRegex(done.stdout, r"not counted: .*, cache: the prompt cache of llama-server")

    def test_planted_leak(self):
        self.assert_planted_leak_is_found(*self.command())

    def test_a_known_leak_is_forgiven(self):
        known = os.path.join(self.folder(), "known.supp")
        with open(known, "w", encoding="utf-8") as file:
            file.write("leak:llama_sampler_chain_init\n")
        library = os.path.join(tracing.BUILD, "tests", "programs", "libplanted_leak.so")
        self.soak(0, *self.command(f"--suppressions={known}"),
                  environment=tracing.plain_environment(LD_PRELOAD=library, PLANTED_LEAK_BYTES="3000"))


class OllamaTest(SoakCase):

    @classmethod
    def setUpClass(cls):
        cls.ollama = os.environ.get("OLLAMA_BIN", "")
        if not os.access(cls.ollama, os.X_OK):
            raise tracing.unittest.SkipTest("OLLAMA_BIN names no ollama program")
        cls.home = tracing.temporary_folder("ollama-home")
        cls.own = {"HOME": cls.home, "OLLAMA_MODELS": os.path.join(cls.home, "models"), "OLLAMA_NUM_PARALLEL": "1"}
        with open(os.path.join(cls.home, "Modelfile"), "w", encoding="utf-8") as file:
            file.write(f"FROM {llama_server.tiny_model()}\nPARAMETER num_ctx 256\nPARAMETER num_thread 1\n")
        host = f"127.0.0.1:{tracing.free_port()}"
        environment = tracing.plain_environment(OLLAMA_HOST=host, **cls.own)
        with open(os.path.join(cls.home, "create.log"), "wb") as log:
            server = subprocess.Popen([cls.ollama, "serve"], env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                      stderr=subprocess.STDOUT)
            try:
                def created():
                    return tracing.run([cls.ollama, "create", "tiny", "-f", os.path.join(cls.home, "Modelfile")],
                                       environment).status == 0
                tracing.wait_until(created, "the model is created")
            finally:
                tracing.end_process(server)

    def command(self, *options, model="tiny"):
        return [f"--model={model}", "--requests=120", "--warm-up=3s", "--idle=2s", "--settle=2s", "--tokens=8", "--workers=1",
                "--ready-timeout=200s", *options, "--", self.ollama, "serve"]

    def has_llama_server(self):
        """Whether this Ollama runs models in a llama-server with libraries of its own (from v0.30 on), not in itself."""
        return os.path.exists(os.path.join(os.path.dirname(os.path.dirname(self.ollama)), "lib", "ollama", "libllama.so"))

    def test_clean(self):
        done = self.soak(0, *self.command(), environment=tracing.plain_environment(**self.own))
        self.assertEqual(self.figures()["outcome"], "done")
        self.assertNotIn("BROKEN", done.stdout)
        if self.has_llama_server():
            self.assertRegex(done.stdout, r"not counted: .*, cache: the prompt cache of llama-server")

    def test_planted_leak(self):
        if not self.has_llama_server():
            self.skipTest("this Ollama has llama.cpp linked into itself: no leak can be planted by a library")
        self.assert_planted_leak_is_found(*self.command(), environment=tracing.plain_environment(**self.own))

    def test_wrong_model(self):
        self.assertIn("nobody", self.one_line(2, *self.command(model="nobody"),
                                              environment=tracing.plain_environment(**self.own)))


del SoakCase

if __name__ == "__main__":
    tracing.main()
