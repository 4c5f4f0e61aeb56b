#!/usr/bin/env python3
"""What a scan calls definitely and indirectly lost, against valgrind's count at the same point of the same program.

RESULTS.md has more programs, and every difference explained.
"""

import os

import scan_run
from scan_run import tracing

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

# Where it is known what is lost, and valgrind misses some of it: the last thread's thread-local storage lies in a stack that
# libc keeps for the next thread, and valgrind takes what it held for a pointer.
KNOWN = {"threads_that_ended": (16, 8 * 1000 + 8 * 2000 + 2 * sum(range(8)))}

# Of tests/programs; RESULTS.md has all of them.
PROGRAMS = ("alloc_in_tls", "debug_frame", "dlclose_reuse", "linked_allocator", "longjmp", "vfork_allocate")


class ValgrindTest(tracing.TestCase):
    def compare(self, program, scenarios, *more):
        if scan_run.VALGRIND is None:
            self.skipTest("no valgrind")
        for scenario in scenarios:
            with self.subTest(scenario):
                command = [os.path.join(scan_run.BIN, program), scenario, *more]
                ours, theirs = scan_run.scan_lost(command), scan_run.valgrind_lost(command)
                print(f"{program} {scenario}: {ours[0]} blocks, {ours[1]} bytes lost; valgrind {theirs[0]}, {theirs[1]}")
                if scenario in KNOWN:
                    self.assertEqual(ours, KNOWN[scenario])
                    self.assertIn(theirs[0], (ours[0], ours[0] - 1))
                    continue
                left = LEFT_BEHIND.get(scenario, 0) if more else 0
                self.assertLessEqual(abs(ours[0] - theirs[0]), left, (ours, theirs))
                self.assertLessEqual(abs(ours[1] - theirs[1]), left * LARGEST_LEFT_BEHIND, (ours, theirs))

    def test_lost_blocks(self):
        self.compare("lost_blocks", LOST_BLOCKS)

    def test_scenarios_of_exactness(self):
        self.compare("exactness_scenarios", EXACTNESS, "wait")

    def test_programs_that_know_nothing_of_it(self):
        if scan_run.VALGRIND is None:
            self.skipTest("no valgrind")
        for name in PROGRAMS:
            with self.subTest(name):
                program = os.path.join(tracing.BUILD, "tests", "programs", "program_" + name)
                ours, theirs = scan_run.lost_at_the_end_of_main([program])
                print(f"{name}: {ours[0]} blocks, {ours[1]} bytes lost; valgrind {theirs[0]}, {theirs[1]}")
                self.assertEqual(ours, theirs)


if __name__ == "__main__":
    tracing.main()
