#!/usr/bin/env python3
"""A trace within OLLAMATRACE_MAX_BYTES, from the library to the report: nothing that is live is missing, whatever was dropped.

The target may write no file beyond the journal's place for blocks, so that the library holds none back and writes each of
them: segments come and go. How much is written depends on when the tracer gets its turn, so the target goes on until the
library has dropped something. It forks again and again, whatever its tracer is just doing.
"""

import os
import signal
import subprocess
import sys

import tracing

LIMIT = 1 << 20
# kPoolOffset of formats/journal_layout.h.
JOURNAL_WITHOUT_BLOCKS = 136 << 20
ALLOCATIONS = 1_000_000
FORKS = 20

TARGET = f'''
import itertools, os, resource, signal, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({JOURNAL_WITHOUT_BLOCKS},) * 2)

def dropped():
    return any(f".{{os.getpid()}}." in name and ".live" in name and name.endswith(".zst")
               for name in os.listdir(os.environ["OLLAMATRACE_DIR"]))

held = []
for i in itertools.count(1):
    held.append(bytearray(1000 + i % 400))
    if len(held) > 2000:
        held.pop(i * 7919 % 2000)
    if i % {ALLOCATIONS // FORKS} == 0:
        child = os.fork()
        if child == 0:
            held = [bytearray(3000) for _ in range(100)]
            os._exit(0)
        os.waitpid(child, 0)
        if i >= {ALLOCATIONS} and dropped():
            break
held += [bytearray(77_777) for _ in range(500)]
if sys.argv[1] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
'''


class LimitedTest(tracing.TestCase):
    def run_target(self, end, mode):
        session = self.folder()
        environment = tracing.traced_environment(session, OLLAMATRACE_MODE=mode, OLLAMATRACE_MAX_BYTES=str(LIMIT),
                                                 PYTHONMALLOC="malloc")
        with subprocess.Popen([sys.executable, "-I", "-S", "-c", TARGET, end], env=environment, stdin=subprocess.DEVNULL) as target:
            status = target.wait(tracing.COMMAND_SECONDS)
        self.assertEqual(status, -signal.SIGKILL if end == "kill" else 0)
        return session, target.pid

    def host(self, report, pid):
        (process,) = [process for process in report["processes"] if process["pid"] == pid]
        return process["host"]

    def check(self, end, mode):
        session, pid = self.run_target(end, mode)
        files = [path for path in tracing.session_files(session, "") if f".{pid}." in os.path.basename(path)]
        traces = [path for path in files if path.endswith(".zst")]
        self.assertTrue([path for path in traces if ".live" in path], files)
        self.assertLessEqual(sum(os.path.getsize(path) for path in files if path.endswith((".zst", ".tmp"))), LIMIT)

        report = tracing.report(session)
        self.assert_nothing_lost(report)
        # The children, which have no room for a journal, say so.
        self.assertEqual(len(report["processes"]), 1)
        self.assertGreaterEqual(len(tracing.session_files(session, ".log")), FORKS)
        self.assertIn("was dropped to stay within OLLAMATRACE_MAX_BYTES", tracing.session_notes(session))
        host = self.host(report, pid)
        self.assertGreater(host["allocations"], ALLOCATIONS)
        if mode != "sample:1K":
            self.assertEqual(host["live_blocks"], host["allocations"] - host["frees"])
        if mode != "sample:1K" and end == "kill":
            # What is held, and what the interpreter has beside.
            held = 500 * 77_777 + 2000 * 1000
            self.assertGreaterEqual(host["live_bytes"], held)
            self.assertLess(host["live_bytes"], held + (20 << 20))

        # Any file stands for all.
        for path in traces:
            self.assertEqual(self.host(tracing.report(path), pid), host, path)
        if mode == "sample:1K":
            return
        # Converted, it says the same in one file.
        converted = os.path.join(self.folder(), "converted")
        done = tracing.leakview("export", "--format=trace", f"--output={converted}", session)
        self.assertEqual(done.status, 0, done.stderr)
        self.assertEqual(len([path for path in tracing.session_files(converted, ".zst") if f".{pid}." in path]), 1)
        again = self.host(tracing.report(converted), pid)
        for figure in ("live_bytes", "live_blocks", "allocations", "frees"):
            self.assertEqual(again[figure], host[figure], figure)

    def test_survivors(self):
        self.check("exit", "survivors")

    def test_survivors_killed(self):
        self.check("kill", "survivors")

    def test_full_killed(self):
        self.check("kill", "full")

    def test_sample_killed(self):
        self.check("kill", "sample:1K")


if __name__ == "__main__":
    tracing.main()
