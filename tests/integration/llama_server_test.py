"""A llama-server that nobody here built: llama.cpp's server from the xllamacpp wheel, with the tiny model.

Fetched with pip into a virtual environment below the build folder; skipped when that cannot be had.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request

import tracing

PACKAGE = "xllamacpp==2026.10.11549"
REQUESTS = 40

SERVER = r"""
import signal, sys
import xllamacpp
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.n_ctx = 512
parameters.n_parallel = 1
parameters.cpuparams.n_threads = 1
parameters.cpuparams_batch.n_threads = 1
parameters.n_threads_http = 2
parameters.warmup = False
parameters.port = 0
server = xllamacpp.Server(parameters)
print("listening on", server.listening_address, flush=True)
signal.sigwait({signal.SIGTERM})
"""


def python_with_server():
    """A Python that imports xllamacpp, or None."""
    folder = os.path.join(tracing.BUILD, "llama-server-venv")
    python = os.path.join(folder, "bin", "python")
    check = [python, "-c", "import xllamacpp; xllamacpp.Server"]
    if os.path.exists(python) and tracing.run(check).status == 0:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    for command in ([sys.executable, "-m", "venv", folder],
                    [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                     "--only-binary", ":all:", "--retries", "1", "--timeout", "30", PACKAGE], check):
        try:
            done = tracing.run(command, timeout=300)
        except (subprocess.TimeoutExpired, OSError) as error:
            print(f"{command[0]}: {error}")
            return None
        if done.status != 0:
            print(done.stderr.decode("utf-8", "replace")[-1000:])
            return None
    return python


class LlamaServerTest(tracing.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.python = python_with_server()
        if cls.python is None:
            raise tracing.unittest.SkipTest(f"pip cannot fetch {PACKAGE} here")
        cls.model = os.path.join(tracing.temporary_folder("model"), "tiny.gguf")
        done = tracing.run([sys.executable, tracing.TINY_MODEL, cls.model])
        assert done.status == 0, done.stderr

    def serve(self, environment, stop):
        """Runs the server for REQUESTS completions; returns what was generated, and its exit code."""
        with open(os.path.join(self.folder(), "log"), "w+b") as log:
            server = subprocess.Popen([self.python, "-c", SERVER, self.model], env=environment,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
            try:
                line = server.stdout.readline().decode()
                if "listening on" not in line:
                    log.seek(0)
                    self.fail(f"the server did not start: {line!r} {log.read()[-2000:]}")
                url = line.split()[-1]
                texts = []
                for number in range(REQUESTS):
                    body = {"prompt": f"why is the sky {number}", "n_predict": 8, "temperature": 0, "seed": 1}
                    request = urllib.request.Request(url + "/completion", json.dumps(body).encode(),
                                                     {"Content-Type": "application/json"})
                    with urllib.request.urlopen(request, timeout=tracing.COMMAND_SECONDS) as answer:
                        texts.append(json.load(answer)["content"])
                return texts, tracing.end_process(server, stop), server.pid
            finally:
                tracing.end_process(server, tracing.signal.SIGKILL)
                server.stdout.close()

    def check(self, stop, end):
        plain, plain_status, _ = self.serve(tracing.plain_environment(), stop)
        session = os.path.join(self.folder(), "session")
        traced, status, pid = self.serve(tracing.traced_environment(session), stop)
        self.assertEqual(len(traced), REQUESTS)
        self.assertEqual(traced, plain)
        self.assertEqual(status, plain_status)
        report = tracing.report(session)
        process = [p for p in report["processes"] if p["pid"] == pid and "-c" in p["argv"]][-1]
        self.assertEqual(process["end"], end)
        self.assertEqual(process["lost_events"], 0)
        self.assertGreater(process["host"]["allocations"], 10000)
        return [g for g in report["groups"] if g["pid"] == pid]

    def test_stopped(self):
        self.check(tracing.signal.SIGTERM, "exited")

    def test_killed_as_ollama_does(self):
        """At the kill everything is live: the report shows the model and its context, by llama.cpp's names."""
        groups = self.check(tracing.signal.SIGKILL, "killed")
        names = {frame["function"] for group in groups for frame in group["frames"] if frame["function"]}
        wanted = ["llama_model_load", "llama_context", "server_context", "ggml_"]
        for name in wanted:
            self.assertTrue([n for n in names if re.search(rf"\b{name}", n)], f"no frame of {name}")
        lines = [frame for group in groups for frame in group["frames"]
                 if re.search(r"llama[^/]*\.cpp$", frame.get("file") or "") and frame["line"]]
        self.assertTrue(lines, "no file and line of llama.cpp's")


if __name__ == "__main__":
    tracing.main()
