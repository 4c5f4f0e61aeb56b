"""Instructions that the library adds to a pair of malloc and free, counted by callgrind: the guard of the hot path.

A count is the same on a busy machine as on an idle one. It is taken from two run lengths, so that start and exit cancel,
for the thread that allocates and for the drain's, in each mode: for one stack that repeats; for 1000 stacks of
25 frames that branch at every depth and change with each pair; for the same with 64 blocks live, so that no block is freed right
after it was allocated; and for stacks that come once, so that each is walked and becomes new nodes.

  instructions_test.py            with OLLAMATRACE_BUILD: the table, and exit code 1 when a count is above its bound
"""

import os
import platform
import shutil
import sys

sys.dont_write_bytecode = True

import sessions
from measure import Bench, Failed

# Debian's `valgrind` is a script that sets variables of its own around this.
VALGRIND = shutil.which("valgrind.bin") or shutil.which("valgrind")
SKIPPED = 77

SHORT, LONG = 5_000, 25_000
ONE, EVERY, LIVE, NEW = "one stack", "25 frames, all change", "the same, 64 live", "25 frames, all new"
STACKS = {ONE: ["--stacks=1"], EVERY: ["--stacks=1000", "--order=turn"],
          LIVE: ["--stacks=1000", "--order=turn", "--live=64"], NEW: ["--stacks=1048576", "--order=turn"]}

# At most so many instructions a pair, of the allocating thread and of the drain: some 10 % above what was counted last (the
# drain's 20 %: how often it wakes depends on the machine; sample's more, it draws). Whoever makes it cheaper lowers them.
COMPILER = "GNU 12"  # whose code was counted
BOUNDS = {
    ("survivors", ONE): (630, 310),
    ("survivors", EVERY): (650, 340),
    ("survivors", LIVE): (650, 860),
    ("survivors", NEW): (9_500, 7_700),
    ("full", ONE): (630, 1_760),
    ("full", EVERY): (650, 1_800),
    ("full", LIVE): (650, 1_800),
    ("full", NEW): (9_500, 7_200),
    ("sample:512K", ONE): (26, 10),
    ("sample:512K", LIVE): (26, 10),
}


def counted(bench, pairs, arguments, variables):
    """Instructions of the first thread and of all others."""
    out = bench.path("callgrind")
    os.mkdir(out)
    bench.checked([VALGRIND, "-q", "--tool=callgrind", "--separate-threads=yes", "--callgrind-out-file=" +
                   os.path.join(out, "o"), bench.program("bench_churn"), f"--pairs={pairs}", *arguments], variables)
    first = others = 0
    for name in os.listdir(out):
        thread = totals = None
        with open(os.path.join(out, name), encoding="utf-8") as file:
            for line in file:
                if line.startswith("thread: "):
                    thread = int(line.split()[1])
                elif line.startswith("totals: "):
                    totals = int(line.split()[1])
        if totals is not None and thread == 1:
            first += totals
        elif totals is not None:
            others += totals
    if not first:
        raise Failed(f"callgrind wrote no count of the first thread into {out}")
    return first, others


def a_pair(bench, arguments, variables):
    """Instructions a pair, of the first thread and of the others. `variables` gives a run's environment."""
    short, long = (counted(bench, pairs, arguments, variables()) for pairs in (SHORT, LONG))
    return tuple((more - less) / (LONG - SHORT) for more, less in zip(long, short))


def traced(bench, mode, stacks):
    def variables():
        # Not valgrind's own start, no /proc samples.
        return {"LD_PRELOAD": bench.library, "OLLAMATRACE_ONLY": "bench_churn", "OLLAMATRACE_MODE": mode,
                "OLLAMATRACE_DIR": bench.path("session"), "OLLAMATRACE_SAMPLE_MS": "0"}

    figures = a_pair(bench, STACKS[stacks], variables)
    session = bench.existing("session")
    sessions.check_session(bench, session, mode.partition(":")[0], 0 if mode.startswith("sample") else LONG)
    if mode == "survivors":
        # The stacks under valgrind are those on hardware: all there, all whole.
        wanted = {ONE: 1, NEW: LONG}.get(stacks, 1000)
        found = sessions.folded_stacks(bench, session)[25]
        if found != wanted:
            raise Failed(f"{found} stacks of 25 frames are in the trace, not {wanted}")
    return figures


def main():
    if VALGRIND is None:
        print("SKIP: no valgrind")
        return SKIPPED
    bench = Bench(os.environ["OLLAMATRACE_BUILD"], 1, False, lambda text: None)
    failures = []
    try:
        print(f"{'instructions a pair':34}{'untraced':>10}{'added':>9}{'bound':>9}{'drain':>9}{'bound':>9}")
        plain = {stacks: a_pair(bench, arguments, dict)[0] for stacks, arguments in STACKS.items()}
        for (mode, stacks), bounds in BOUNDS.items():
            thread, drain = traced(bench, mode, stacks)
            added = thread - plain[stacks]
            print(f"{mode}, {stacks}".ljust(34) +
                  f"{plain[stacks]:10.0f}{added:9.0f}{bounds[0]:9,}{drain:9.0f}{bounds[1]:9,}", flush=True)
            for what, figure, bound in (("the allocating thread", added, bounds[0]), ("the drain", drain, bounds[1])):
                if figure > bound:
                    failures.append(f"{mode}, {stacks}: {figure:.0f} instructions a pair in {what}, at most {bound}")
    finally:
        bench.close()
    compiler = os.environ.get("OLLAMATRACE_COMPILER", COMPILER)
    if platform.machine() != "x86_64" or compiler != COMPILER:
        print(f"SKIP: the bounds are for {COMPILER} on x86_64, this is {compiler} on {platform.machine()}")
        return SKIPPED
    print("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failed:
        sys.exit(f"instructions_test.py: {failed}")
