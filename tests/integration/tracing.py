"""What the integration tests share: run a command under the library, read its session, skip visibly.

Paths come from the environment that CMake sets: OLLAMATRACE_LIB, OLLAMATRACE_LEAKVIEW, OLLAMATRACE_BUILD. To run a
test by hand: `ctest --test-dir build/release -R leaky_server -V`, or set the three and start the file.
OLLAMATRACE_KEEP=1 keeps the temporary folders.
"""

import atexit
import collections
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

SKIPPED = 77  # ctest's SKIP_RETURN_CODE

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("OLLAMATRACE_BUILD", os.path.join(SOURCE, "build", "release"))
LIB = os.environ.get("OLLAMATRACE_LIB", os.path.join(BUILD, "lib", "libollamatrace.so"))
LEAKVIEW = os.environ.get("OLLAMATRACE_LEAKVIEW", os.path.join(BUILD, "bin", "ollama-leakview"))
LEAKY_SERVER = os.path.join(BUILD, "bin", "leaky_server")
TINY_MODEL = os.path.join(SOURCE, "examples", "tiny_model", "make_tiny_gguf.py")

# Generous: a loaded machine with two cores must never turn a test red.
COMMAND_SECONDS = 240

Result = collections.namedtuple("Result", "status stdout stderr")


def temporary_folder(name):
    """A fresh folder that goes when the test ends."""
    folder = tempfile.mkdtemp(prefix=f"ollamatrace-{name}-")
    if not os.environ.get("OLLAMATRACE_KEEP"):
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def plain_environment(**settings):
    """This process's environment without the library and its settings; the user's cache stays as it is."""
    environment = {name: value for name, value in os.environ.items()
                   if name != "LD_PRELOAD" and not name.startswith("OLLAMATRACE_")}
    environment["OLLAMATRACE_SYMBOL_CACHE"] = "off"
    environment.update(settings)
    return environment


def traced_environment(session, **settings):
    return plain_environment(**{"LD_PRELOAD": LIB, "OLLAMATRACE_DIR": session, **settings})


def run(command, environment=None, cwd=None, timeout=COMMAND_SECONDS, stdin=None):
    """Runs `command` to its end; never raises for its exit code."""
    done = subprocess.run(
        command, env=environment if environment is not None else plain_environment(), cwd=cwd,
        timeout=timeout, capture_output=True, check=False,
        **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}))
    return Result(done.returncode, done.stdout, done.stderr)


def leakview(*arguments, environment=None):
    """Runs the analyzer; its answer's texts are decoded."""
    done = run([LEAKVIEW, *arguments], environment)
    return Result(done.status, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def report(*paths_and_options):
    """The session's report as JSON; an AssertionError with the analyzer's own words when there is none."""
    done = leakview("report", "--format=json", *paths_and_options)
    assert done.status == 0, f"ollama-leakview report {paths_and_options}: exit code {done.status}, {done.stderr}"
    answer = json.loads(done.stdout)
    assert answer["schema"] == "ollama-leakview/report/1", answer["schema"]
    return answer


def session_files(session, suffix):
    return sorted(glob.glob(os.path.join(glob.escape(session), "*" + suffix)))


def session_notes(session):
    """All that the library wrote beside the traces (*.log) and what the reports say: where a reason may stand."""
    text = ""
    for path in session_files(session, ".log"):
        with open(path, encoding="utf-8", errors="replace") as file:
            text += file.read()
    done = leakview("report", session)
    text += done.stdout + done.stderr
    return text + leakview("report", "--format=json", session).stdout


def last_image(report, pid):
    """What `pid` was in the end: a process that calls exec is listed once for each program that it has been."""
    images = [p for p in report["processes"] if p["pid"] == pid and p["end"] != "exec"]
    assert len(images) == 1, [(p["pid"], p["exe"], p["end"]) for p in report["processes"]]
    return images[0]


def exe_name(process):
    return os.path.basename(process["exe"])


def frames_text(group):
    return "\n    ".join(
        f"{f.get('function')} {f.get('file')}:{f.get('line')} {f.get('module')}" for f in group["frames"])


def wait_until(condition, what, seconds=COMMAND_SECONDS):
    """Polls `condition` until it answers something true, which is returned."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def free_port():
    """A port that nobody listens on; somebody else may take it before it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_process(process, how=signal.SIGTERM, seconds=60):
    """Ends a Popen and returns its exit code; by SIGKILL when it does not listen."""
    if process.poll() is None:
        process.send_signal(how)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


class TestCase(unittest.TestCase):
    maxDiff = 4000

    def program(self, name):
        """The path of a program; skips the test by name when it is not there."""
        path = shutil.which(name)
        if path is None:
            self.skipTest(f"{name} is not installed")
        return path

    def assert_nothing_lost(self, report):
        """No event is missing: none is counted as lost, each free has its block and no block lies over a live one."""
        self.assertTrue(report["processes"], "no trace")
        self.assertEqual([p for p in report["processes"] if p["lost_events"]], [])
        coverage = report["coverage"]
        for count in ("lost_events", "unmatched_frees", "allocations_over_live", "unreadable_traces", "damaged_chunks"):
            self.assertEqual(coverage[count], 0, (count, coverage))

    def assert_accounted(self, process):
        """The rows add up to the process's anonymous memory, under 5 % of it unknown; returns the bytes by row."""
        memory = process["memory"]
        account = memory["accounting"]
        self.assertIsNotNone(account, process["exe"])
        rows = {row["id"]: row["bytes"] for row in account["rows"]}
        self.assertEqual(sum(rows.values()), account["total"])
        self.assertEqual(rows["unknown"], memory["unknown"])
        self.assertEqual(rows.get("retained", 0), memory["retained"])
        print(f"{exe_name(process)}: {memory['unknown']} of {account['total']} bytes unknown, {rows}")
        self.assertLess(memory["unknown"], 0.05 * account["total"], json.dumps(account, indent=1))
        return rows

    def folder(self):
        return temporary_folder(self.id().rsplit(".", 1)[-1])


class CountingResult(unittest.TextTestResult):
    """Counts what passed: a class that is skipped as a whole is in no other number."""
    passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


def main():
    """Runs the caller's tests; exit code 77 when none failed and none ran to its end."""
    for path in (LIB, LEAKVIEW):
        if not os.path.exists(path):
            sys.exit(f"{path}: not built")
    runner = unittest.TextTestRunner(verbosity=2, resultclass=CountingResult)
    result = unittest.main(module="__main__", exit=False, testRunner=runner).result
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(0 if result.passed else SKIPPED)
