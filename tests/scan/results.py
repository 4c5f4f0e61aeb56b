#!/usr/bin/env python3
"""Prints RESULTS.md: what a scan and valgrind find lost in each C and C++ program of the tests.

  B=$PWD/build/release; OLLAMATRACE_BUILD=$B OLLAMATRACE_LIB=$B/lib/libollamatrace.so OLLAMATRACE_LEAKVIEW=$B/bin/ollama-leakview \
    tests/scan/results.py > tests/scan/RESULTS.md
"""

import glob
import json
import os
import subprocess
import sys

import scan_run
import scan_valgrind_test
from scan_run import tracing

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HEAD = """# What a scan and valgrind find lost

Definitely and indirectly lost blocks and bytes, by `ollama-leakview scan` and by valgrind's memcheck, at the same point of the same program; made by
`tests/scan/results.py`. `tests/scan` and `tests/exactness` say themselves where; in programs that know nothing of it main has returned (`end_of_main.cc`).
Left out: what ends in another way than by main's return, or waits for something that valgrind does not give.

| program | scan: blocks | bytes | valgrind: blocks | bytes | |
|---|---|---|---|---|---|"""

# Why the two differ, where they do.
WHY = {
    "lost_blocks threads_that_ended": "all 16 are lost; valgrind takes what the last thread's thread-local storage held, "
                                      "in a stack that libc keeps, for a pointer",
    "exactness churn": "addresses of the walk's last blocks in a dead part of a frame",
    "exactness threads_in_turn": "addresses of the last thread's blocks left in registers and dead frames",
    "exactness threads_together": "addresses left in the same way",
    "exactness threads_left": "which of three threads wrote last to the one global",
    "program deepbind": "blocks that a plug-in bound past every hook frees unseen: to the trace they live",
    "program live_threads": "stacks of threads that ended, of a size that no living thread has: glibc keeps them, "
                            "and they are taken for the program's own memory",
    "program longjmp_signal": "how often the timer's signal comes; the two runs allocate differently",
    "program signal_malloc": "how often the timer's signal comes; the two runs allocate differently",
    "program small_stack": "stale words on stacks that the program mapped itself: all of a mapping is looked through",
}


def programs():
    for scenario in scan_valgrind_test.LOST_BLOCKS:
        yield f"lost_blocks {scenario}", [os.path.join(scan_run.BIN, "lost_blocks"), scenario], False
    for scenario in scan_valgrind_test.EXACTNESS:
        yield f"exactness {scenario}", [os.path.join(scan_run.BIN, "exactness_scenarios"), scenario, "wait"], False
    for language, program in (("c", "corpus_c"), ("cpp", "corpus_cpp")):
        truth = os.path.join(TESTS, "corpus", language + ".json")
        if not os.path.exists(truth):
            continue
        with open(truth, encoding="utf-8") as file:
            for scenario in json.load(file):
                yield f"corpus {scenario}", [os.path.join(tracing.BUILD, "corpus", program), scenario], True
    for path in sorted(glob.glob(os.path.join(tracing.BUILD, "tests", "programs", "program_*"))):
        yield os.path.basename(path).replace("_", " ", 1), [path], True


def compare(command, ends_by_itself):
    if ends_by_itself:
        return scan_run.lost_at_the_end_of_main(command)
    return scan_run.scan_lost(command), scan_run.valgrind_lost(command)


def main():
    os.chdir(tracing.temporary_folder("results"))  # some programs leave files
    print(HEAD)
    same = compared = 0
    for name, command, ends_by_itself in programs():
        try:
            ours, theirs = compare(command, ends_by_itself)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            print(f"{name}: left out: {str(error)[:200]}", file=sys.stderr)
            continue
        compared += 1
        same += ours == theirs
        why = "" if ours == theirs else WHY.get(name, "NOT EXPLAINED")
        print(f"| {name} | {ours[0]} | {ours[1]} | {theirs[0]} | {theirs[1]} | {why} |", flush=True)
    print(f"\n{compared} programs, {same} of them the same to the byte.")


if __name__ == "__main__":
    main()
