"""A llama-server that nobody here built, and a tiny model for it: fetched, started, asked.

By default llama.cpp's server from the xllamacpp wheel, which pip puts into a virtual environment below the build folder
(`serve_tiny_model.py` is its main program). LLAMA_SERVER_BIN names a llama-server program to be taken as well.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import tracing

PACKAGE = "xllamacpp==2026.10.11549"
PLANTED_LEAK = os.path.join(tracing.BUILD, "tests", "programs", "libplanted_leak.so")
MAIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "serve_tiny_model.py")


def wheel_python():
    """A Python that imports xllamacpp; None, with the reason on stdout, when pip cannot fetch it."""
    os.makedirs(tracing.BUILD, exist_ok=True)
    folder = os.path.join(tracing.BUILD, "llama-server-venv")
    python = os.path.join(folder, "bin", "python")
    check = [python, "-c", "import xllamacpp; xllamacpp.Server"]
    with open(folder + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
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


def tiny_model():
    """The path of a fresh tiny model; it goes when the test ends."""
    model = os.path.join(tracing.temporary_folder("model"), "tiny.gguf")
    done = tracing.run([sys.executable, tracing.TINY_MODEL, model])
    assert done.status == 0, done.stderr
    return model


class Server:
    """One running server with its output in the file `log`; a context manager that leaves no process behind."""

    def __init__(self, command, environment, log):
        self.log = log
        with open(log, "wb") as output:
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                                            stderr=subprocess.STDOUT)
        self.pid = self.process.pid
        self.url = None

    def __enter__(self):
        try:
            self.url = tracing.wait_until(self._listening, "the server listens")
            tracing.wait_until(self._healthy, "the server has loaded the model")
        except BaseException:
            self.stop(tracing.signal.SIGKILL)
            raise
        return self

    def __exit__(self, *_):
        self.stop(tracing.signal.SIGKILL)

    def said(self):
        with open(self.log, "r", encoding="utf-8", errors="replace") as file:
            return file.read()

    def _listening(self):
        assert self.process.poll() is None, f"the server ended: {self.said()[-2000:]}"
        for line in self.said().splitlines(True):
            if "listening on" in line and line.endswith("\n"):
                return line.split("listening on")[1].split()[0]
        return None

    def _healthy(self):
        assert self.process.poll() is None, f"the server ended: {self.said()[-2000:]}"
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=30) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def complete(self, prompt):
        body = {"prompt": prompt, "n_predict": 8, "temperature": 1, "seed": 1}
        request = urllib.request.Request(self.url + "/completion", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=tracing.COMMAND_SECONDS) as answer:
            return json.load(answer)["content"]

    def stop(self, how=tracing.signal.SIGTERM):
        return tracing.end_process(self.process, how)


def serve(command, environment, log, session, requests, prompt, how=tracing.signal.SIGTERM):
    """Starts the server, asks it for `requests` completions of prompt(number), marks each in the session, ends it; its pid."""
    with Server(command, environment, log) as server:
        with open(os.path.join(session, "marks.jsonl"), "a", encoding="utf-8") as marks:
            for number in range(requests):
                server.complete(prompt(number))
                marks.write(json.dumps({"t": time.monotonic_ns(), "mark": "request"}) + "\n")
                marks.flush()
        server.stop(how)
    return server.pid
