"""P9b, P9c and P9d: whether a trace, its journal and the library's memory stay bounded while pairs go by, looked at on the way.

Minutes each. P9b is P9's program for two billion pairs; P9c has as many survivors as 72 hours leave; in P9d so many blocks
are live at a time that the library cannot hold them back, and writes every pair.
"""

import glob
import os
import re
import struct
import subprocess
import threading
import time

import peers
import sessions
from measure import Failed
from table import Line, compared

PAIRS_OF_72_HOURS = 72 * 3600 * 200_000
ONE_IN = 10_000
LIMIT = 256  # MiB
LOOKS = 10
# Of the journal's header (formats/FORMAT.md): events that were lost, by kind.
LOSSES = (280, "<6Q")


def status_bytes(pid, name):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(re.search(rf"^{name}:\s+(\d+) kB", file.read(), re.M)[1]) * 1024


def sizes(folder, suffixes):
    """(bytes, files): what the files with these endings have. A file that goes meanwhile counts no more."""
    found = []
    for path in glob.glob(os.path.join(glob.escape(folder), "*")):
        if path.endswith(suffixes):
            try:
                found.append(os.stat(path))
            except FileNotFoundError:
                pass
    return sum(info.st_size for info in found), sum(info.st_blocks for info in found) * 512, len(found)


def lost_events(folder):
    for path in glob.glob(os.path.join(glob.escape(folder), "*.journal")):
        with open(path, "rb") as file:
            file.seek(LOSSES[0])
            return sum(struct.unpack(LOSSES[1], file.read(struct.calcsize(LOSSES[1]))))
    return 0


class Watched:
    """A run of bench_churn that is looked at each time it has done so many more pairs, and 20 times a second.

    `looks`: [{pairs, trace, files, journal, rss, lost}]; `most_trace`: the most bytes of the trace's files at a time, one in the
    making included; `most_rss`.
    """

    def __init__(self, bench, pairs, arguments, variables, folder=None):
        self.folder, self.looks, self.most_trace = folder, [], 0
        argv = [bench.program("bench_churn"), f"--pairs={pairs}", f"--report={pairs // LOOKS}", *arguments]
        ended, begin = threading.Event(), time.monotonic()
        with subprocess.Popen(argv, env=bench.environment(variables), cwd=bench.scratch, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as process:
            watch = threading.Thread(target=self._watch, args=(ended,))
            watch.start()
            try:
                for line in process.stdout:
                    word, number = line.split()
                    if word != "pairs":
                        continue
                    bench.say(f"{int(number):,} pairs")
                    self._look(process.pid, int(number))
                    self.most_rss = status_bytes(process.pid, "VmHWM")
                    process.stdin.write(".")
                    process.stdin.flush()
            finally:
                ended.set()
                watch.join()
        self.seconds = time.monotonic() - begin
        if process.returncode != 0 or len(self.looks) < LOOKS:
            raise Failed(f"bench_churn ended with status {process.returncode}")

    def _look(self, pid, pairs):
        look = {"pairs": pairs, "rss": status_bytes(pid, "VmRSS")}
        if self.folder:
            look["trace"], _, look["files"] = sizes(self.folder, (".zst", ".tmp"))
            look["journal"] = sizes(self.folder, (".journal",))[1]
            look["lost"] = lost_events(self.folder)
        self.looks.append(look)

    def _watch(self, ended):
        while self.folder and not ended.wait(0.05):
            self.most_trace = max(self.most_trace, sizes(self.folder, (".zst", ".tmp"))[0])


def traced(bench, pairs, arguments, live, limit):
    """The run, and that what it leaves is all there: every pair counted, `live` blocks live, nothing lost."""
    variables = peers.ours(bench, "survivors", OLLAMATRACE_MAX_BYTES=limit)
    folder = bench.existing("session")
    run = Watched(bench, pairs, arguments, variables, folder)
    sessions.check_session(bench, folder, "survivors", pairs)
    blocks = sessions.read_session(bench, folder)["processes"][0]["host"]["live_blocks"]
    if not live <= blocks < live + 100:
        raise Failed(f"{blocks:,} blocks are live in the trace, {live:,} in the program")
    run.size, _, run.files = sizes(folder, (".zst",))
    run.most_trace = max(run.most_trace, run.size)
    return run


def told(run, plain):
    """The looks, for the notes."""
    return "; ".join(
        f"{look['pairs'] / 1e6:,.0f} M: {look['trace'] / 1e6:.2f} MB in {look['files']}, {(look['rss'] - bare['rss']) / 1e6:.1f} MB, "
        f"{look['lost']}" for look, bare in zip(run.looks, plain.looks))


def lines(bench, name, title, pairs, arguments, live, limit, most_extra=64):
    """The run with a limit of `limit` MiB, and its two lines."""
    run = traced(bench, pairs, arguments, live, f"{limit}M")
    plain = Watched(bench, pairs, arguments, {})
    file = Line(name, f"{title}, OLLAMATRACE_MAX_BYTES={limit}M: most bytes of all files at a time", "MiB",
                {"ours": f"{run.most_trace / (1 << 20):.1f}"})
    compared(file, run.most_trace / (1 << 20), limit, digits=0)
    extra = max(run.most_rss - plain.most_rss, *(look["rss"] - bare["rss"] for look, bare in zip(run.looks, plain.looks)))
    memory = Line(name, "  most extra resident memory in the target", "MB", {"ours": f"{extra / 1e6:.1f}"})
    if most_extra:
        compared(memory, extra / 1e6, most_extra, digits=1)
    file.notes.append(f"pairs: trace in so many files, extra resident memory, lost events: {told(run, plain)}")
    file.notes.append(f"ended: {run.size / 1e6:.2f} MB in {run.files} files; all {pairs:,} pairs counted, {live:,} blocks live; "
                      f"{run.seconds:.0f} s, untraced {plain.seconds:.0f} s")
    file.samples = {"ours": {"looks": run.looks}, "untraced": {"looks": plain.looks}}
    return run, [file, memory]


def p9b(bench):
    pairs = 2_000_000 if bench.quick else 2_000_000_000
    arguments = ["--live=64", f"--survive={ONE_IN}"]
    run, answer = lines(bench, "P9b", f"{pairs:,} pairs, one block in {ONE_IN:,} survives", pairs, arguments, pairs // ONE_IN, LIMIT)
    first, last = run.looks[0], run.looks[-1]
    a_pair = (last["trace"] - first["trace"]) / (last["pairs"] - first["pairs"])
    answer[0].notes.append(
        f"{a_pair * ONE_IN:.1f} bytes a survivor; as many to the end of 72 h, {PAIRS_OF_72_HOURS / 1e9:.2f} G pairs, "
        f"{PAIRS_OF_72_HOURS // ONE_IN:,} survivors: {(first['trace'] + a_pair * PAIRS_OF_72_HOURS) / 1e6:.0f} MB by count")
    free = traced(bench, pairs, arguments, pairs // ONE_IN, "0")
    answer.append(Line("P9b", "  without a limit: bytes at the end", "MiB", {"ours": f"{free.size / (1 << 20):.1f}"}))
    return answer


def p9c(bench):
    survivors = PAIRS_OF_72_HOURS // ONE_IN // (1000 if bench.quick else 1)
    pairs = survivors * 100
    title = f"{survivors:,} survivors, as many as 72 h leave, of {pairs:,} pairs"
    return lines(bench, "P9c", title, pairs, ["--live=64", "--survive=100"], survivors, LIMIT)[1]


def p9d(bench):
    pairs, live = (8_000_000, 2_000_000) if bench.quick else (100_000_000, 4_000_000)
    arguments = [f"--live={live}", f"--survive={ONE_IN}"]
    title = f"{pairs:,} pairs, {live:,} blocks live at a time, one in {ONE_IN:,} survives"
    # The goal for the memory is one for P9's load: of this one, the library holds back all that it may.
    answer = lines(bench, "P9d", title, pairs, arguments, pairs // ONE_IN, LIMIT, most_extra=None)[1]
    part = pairs // 10
    free = traced(bench, part, arguments, part // ONE_IN, "0")
    answer.append(Line("P9d", f"  without a limit: bytes after {part:,} pairs", "MiB", {"ours": f"{free.size / (1 << 20):.1f}"}))
    return answer
