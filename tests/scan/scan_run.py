"""What the tests of `ollama-leakview scan` share: a traced target that waits, and what a scan of it says."""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "integration"))
import tracing  # noqa: E402

BIN = os.path.join(tracing.BUILD, "bin")


class Target:
    """A traced program that says when it is ready, and then does as it is told on stdin."""

    def __init__(self, session, *command, **settings):
        self.session = session
        self.process = subprocess.Popen(
            command, env=tracing.traced_environment(session, **settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self.process.pid
        self.ready = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        assert line, f"the target ended: {self.process.wait()}"
        return line.decode().strip()

    def order(self, what):
        self.process.stdin.write(what.encode() + b"\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(tracing.COMMAND_SECONDS)

    def kill(self):
        self.process.kill()
        return self.end()


def scan(target):
    """Scans the target; its last line in the file beside the trace, as JSON, and the analyzer's answer."""
    done = tracing.leakview("scan", str(target.pid))
    assert done.status == 0, done.stderr
    files = [path for path in tracing.session_files(target.session, ".scan") if f".{target.pid}." in path]
    assert len(files) == 1, files
    with open(files[0], encoding="utf-8") as file:
        return json.loads(file.readlines()[-1]), done


def thread_statuses(pid):
    """The fields of /proc/PID/task/TID/status, by TID."""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{tid}/status", encoding="utf-8", errors="replace") as file:
                found[int(tid)] = dict(line.split(":", 1) for line in file)
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def thread_names(pid):
    return [fields["Name"].strip() for fields in thread_statuses(pid).values()]


def states(pid):
    """The state and the tracer of each thread."""
    return {tid: (fields["State"].strip()[0], int(fields["TracerPid"])) for tid, fields in thread_statuses(pid).items()}
