#!/usr/bin/env python3
"""Drives leaky_server (or any server with Ollama's API): starts it, sends requests, stops it.

  drive.py --requests 200 --leak request,plugin -- build/release/bin/leaky_server
  drive.py --requests 50 --url http://127.0.0.1:11434 --model tiny

The server's environment is this program's: put LD_PRELOAD into `--env`, so that Python itself stays untraced.
"""

import argparse
import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

STOP_SECONDS = 60


class Marks:
    """Appends phases and requests to marks.jsonl, on the clock that the trace uses."""

    def __init__(self, path):
        self._file = None
        if path:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            self._file = open(path, "a", encoding="utf-8")
        self._lock = threading.Lock()

    def add(self, mark, **fields):
        if self._file is None:
            return
        line = {"t": time.clock_gettime_ns(time.CLOCK_MONOTONIC), "mark": mark, **fields}
        with self._lock:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()


def start_server(command, environment):
    """Starts `command` and returns it with its URL, read from the line "listening on HOST:PORT"."""
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment)
    line = server.stdout.readline()
    if "listening on " not in line:
        server.kill()
        server.wait()
        raise SystemExit(f"drive.py: {command[0]} ended before it listened (said {line!r})")
    return server, "http://" + line.strip().rsplit(" ", 1)[1]


def generate(url, model, prompt, leak=None, keep_alive=None, words=16):
    body = {"model": model, "prompt": prompt, "stream": False, "options": {"num_predict": words}}
    if leak is not None:
        body["options"]["leak"] = leak
    if keep_alive is not None:
        body["keep_alive"] = keep_alive
    request = urllib.request.Request(
        url + "/api/generate", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def main():
    parser = argparse.ArgumentParser(
        description="Send requests to leaky_server, or to any server with Ollama's API.",
        epilog="example: drive.py --requests 100 --leak request -- build/release/bin/leaky_server")
    parser.add_argument("--requests", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--concurrency", type=int, default=2, help="at a time (default 2)")
    parser.add_argument("--leak", help="leaky_server only: the leaks that each request switches on")
    parser.add_argument("--model", default="leaky", help="the model's name (default leaky)")
    parser.add_argument("--words", type=int, default=16, help="tokens to generate (default 16)")
    parser.add_argument("--no-unload", action="store_true", help="no keep_alive 0 at the end")
    parser.add_argument("--marks", metavar="FILE", help="append phases and requests to this marks.jsonl")
    parser.add_argument("--env", metavar="NAME=VALUE", action="append", default=[],
                        help="for the server only; may be repeated")
    parser.add_argument("--url", help="a server that runs already; it is not stopped")
    parser.add_argument("command", nargs="*", help="the server to start, after --")
    options = parser.parse_args()
    if bool(options.url) == bool(options.command):
        parser.error("give either --url or a command to start")
    environment = dict(os.environ)
    for setting in options.env:
        name, _, value = setting.partition("=")
        environment[name] = value

    marks = Marks(options.marks)
    server, url = None, (options.url or "").rstrip("/")
    if options.command:
        server, url = start_server(options.command, environment)
    failures = []

    def one(number):
        try:
            generate(url, options.model, f"request {number}: why is the sky blue?", options.leak,
                     words=options.words)
        except (urllib.error.URLError, OSError, ValueError) as error:
            failures.append(f"request {number}: {error}")
        marks.add("request", n=number)

    try:
        marks.add("phase", name="load")
        with concurrent.futures.ThreadPoolExecutor(options.concurrency) as pool:
            list(pool.map(one, range(options.requests)))
        if not options.no_unload:
            marks.add("phase", name="unload")
            generate(url, options.model, "", keep_alive=0)
        marks.add("phase", name="end")
    except (urllib.error.URLError, OSError, ValueError) as error:
        failures.append(f"unload: {error}")
    finally:
        status = 0
        if server is not None:
            server.send_signal(signal.SIGTERM)
            try:
                status = server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                status = server.wait()
                failures.append(f"the server did not stop in {STOP_SECONDS} s")
    for failure in failures[:10]:
        print(f"drive.py: {failure}", file=sys.stderr)
    answered = options.requests - sum(f.startswith("request") for f in failures)
    print(f"{answered} of {options.requests} requests answered"
          + (f", the server ended with {status}" if server is not None else ""))
    return 1 if failures or status != 0 else 0


if __name__ == "__main__":
    sys.exit(main())
