"""What the tests of `ollama-leakview scan` share: a traced target that waits, and what a scan of it says."""

import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "integration"))
import tracing  # noqa: E402

BIN = os.path.join(tracing.BUILD, "bin")
END_OF_MAIN = os.path.join(tracing.BUILD, "tests", "scan", "end_of_main.so")
VALGRIND = shutil.which("valgrind")
# glibc fills what is freed: a scan takes a stale word for a pointer, where valgrind knows that the program never wrote it.
FILL = {"GLIBC_TUNABLES": "glibc.malloc.perturb=165"}


class Target:
    """A traced program that says when it is ready, and then does as it is told on stdin."""

    def __init__(self, session, *command, **settings):
        self.session = session
        self.process = subprocess.Popen(
            command, env=tracing.traced_environment(session, **settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self.process.pid
        self.ready = self.answer()
        while "END_OF_MAIN" in settings and self.ready != "ready":  # what the program itself says
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


def valgrind_lost(command, **settings):
    """Blocks and bytes that valgrind counts as definitely or indirectly lost where the program awaits a scan."""
    done = subprocess.run([VALGRIND, "-q", "--leak-check=no", *command], env=tracing.plain_environment(**settings),
                          stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=tracing.COMMAND_SECONDS)
    found = re.search(rb"^lost ([0-9]+) ([0-9]+)$", done.stdout, re.MULTILINE)
    assert found, f"valgrind: {done.returncode}, {done.stdout[-500:]}, {done.stderr[-2000:]}"
    return int(found[1]), int(found[2])


def scan_lost(command, **settings):
    """The same by a scan."""
    target = Target(tracing.temporary_folder("compared"), *command, **FILL, **settings)
    assert target.ready == "ready", target.ready
    found, _ = scan(target)
    target.kill()
    return tuple(found["definitely_lost"][i] + found["indirectly_lost"][i] for i in (0, 1))


def lost_at_the_end_of_main(command):
    """What a scan and what valgrind find in a program that knows nothing of either."""
    name = os.path.basename(command[0])
    both = f"{tracing.LIB}:{END_OF_MAIN}"
    return (scan_lost(command, LD_PRELOAD=both, END_OF_MAIN=name),
            valgrind_lost(command, LD_PRELOAD=END_OF_MAIN, END_OF_MAIN=name))
