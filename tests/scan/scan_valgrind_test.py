#!/usr/bin/env python3
"""What a scan calls definitely and indirectly lost, against valgrind's count at the same point of the same program.

valgrind knows which bytes were ever written; a scan takes every word in a live block for what it says. So that stale
words of a block's earlier life do not count, glibc fills what is freed (glibc.malloc.perturb) in the traced run.
"""

import os
import shutil
import subprocess

import scan_run
from scan_run import tracing

VALGRIND = shutil.which("valgrind")

LOST_BLOCKS = ("plain", "chains", "circles", "shared_pointers", "containers", "table", "interior", "thread_local",
               "mapping", "sparse", "large_blocks", "threads", "threads_that_ended", "freed", "unloaded", "coroutine")
EXACTNESS = ("c", "realloc", "cxx", "containers", "libc", "churn", "threads_in_turn", "threads_together", "threads_left",
             "dlopen")

# Scenarios whose threads or loops leave addresses of their last blocks in registers and dead parts of frames, other ones
# in every run and under valgrind, whose code is not the processor's: so many blocks may be kept by them in one of the
# two and not in the other. A scan errs, as valgrind does, by calling a block reachable, never by calling it lost.
LEFT_BEHIND = {
    "churn": 2,             # the last blocks of a random walk, in the vector's dead frame
    "threads_in_turn": 3,   # the last thread's blocks, and its table of thread-local storage
    "threads_together": 2,  # the table of thread-local storage of a thread that ended
    "threads_left": 2,      # which of three threads was the last to write to the one global
}
LARGEST_LEFT_BEHIND = 3000  # bytes


def valgrind(command):
    done = subprocess.run([VALGRIND, "-q", "--leak-check=no", *command], env=tracing.plain_environment(),
                          stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=tracing.COMMAND_SECONDS)
    words = done.stdout.split()
    if done.returncode != 0 or len(words) != 2:
        raise AssertionError(f"valgrind: {done.returncode}, {done.stdout}, {done.stderr[-2000:]}")
    return int(words[0]), int(words[1])


class ValgrindTest(tracing.TestCase):
    def compare(self, program, scenarios, *more):
        if VALGRIND is None:
            self.skipTest("no valgrind")
        for scenario in scenarios:
            with self.subTest(scenario):
                command = [os.path.join(scan_run.BIN, program), scenario, *more]
                theirs = valgrind(command)
                target = scan_run.Target(tracing.temporary_folder(scenario), *command,
                                         GLIBC_TUNABLES="glibc.malloc.perturb=165")
                self.assertEqual(target.ready, "ready")
                found, _ = scan_run.scan(target)
                target.kill()
                ours = tuple(found["definitely_lost"][i] + found["indirectly_lost"][i] for i in (0, 1))
                print(f"{program} {scenario}: {ours[0]} blocks, {ours[1]} bytes lost; valgrind {theirs[0]}, {theirs[1]}")
                left = LEFT_BEHIND.get(scenario, 0) if more else 0
                self.assertLessEqual(abs(ours[0] - theirs[0]), left, (ours, theirs))
                self.assertLessEqual(abs(ours[1] - theirs[1]), left * LARGEST_LEFT_BEHIND, (ours, theirs))

    def test_lost_blocks(self):
        self.compare("lost_blocks", LOST_BLOCKS)

    def test_scenarios_of_exactness(self):
        self.compare("exactness_scenarios", EXACTNESS, "wait")


if __name__ == "__main__":
    tracing.main()
