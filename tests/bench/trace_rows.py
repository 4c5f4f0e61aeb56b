"""P8, P9 and P10: what a trace takes on the disk, whether it stays bounded, how fast it is read."""

import functools
import glob
import os
import threading

import peers
import sessions
import workloads
from measure import Failed, Missing, median
from table import Line, compared

INTERPRET = ("/usr/lib/heaptrack/libexec/heaptrack_interpret", "/usr/lib/*/heaptrack/libexec/heaptrack_interpret",
             "/usr/lib/*/libexec/heaptrack_interpret")
# Its interpreter was seen to take all memory of the machine.
INTERPRETER_KIB = 8 << 20

WORKLOADS = (("", "cc1plus -O2 on a template-heavy file", workloads.compiler),
             ("b", "python3 that parses JSON", workloads.json_parser))


def megabytes(value):
    return f"{value / 1e6:.1f} MB"


@functools.cache
def full_trace(bench, make):
    """(session folder, bytes, events) of a workload in mode full."""
    workload = make(bench)
    folder = f"full-{make.__name__}"
    bench.checked(workload.argv, {**peers.ours(bench, "full", folder), **workload.variables})
    session = bench.existing(folder)
    sessions.check_session(bench, session, "full", workload.allocations)
    report = sessions.read_session(bench, session)
    events = sum(process["host"]["allocations"] + process["host"]["frees"] for process in report["processes"])
    return session, sum(os.path.getsize(path) for path in glob.glob(os.path.join(session, "*"))), events


@functools.cache
def heaptrack_trace(bench, make):
    """(its file, bytes, events, bytes of its raw record) of the same, as `heaptrack` leaves it: interpreted, through zstd."""
    workload = make(bench)
    raw, file = bench.path(f"{make.__name__}.raw"), bench.path(f"{make.__name__}.zst")
    variables = peers.heaptrack(bench)
    bench.checked(workload.argv, {**variables, "DUMP_HEAPTRACK_OUTPUT": raw, **workload.variables})
    with open(raw, "rb") as lines:
        events = sum(line[:1] in (b"+", b"-") for line in lines)
    bench.checked(["bash", "-c", 'set -o pipefail; ulimit -v "$0"; "$1" <"$2" | zstd -q >"$3"', str(INTERPRETER_KIB),
                   peers.find(INTERPRET, "heaptrack's interpreter"), raw, file])
    return file, os.path.getsize(file), events, os.path.getsize(raw)


def p8(bench):
    answer = []
    for letter, title, make in WORKLOADS:
        line = Line("P8" + letter, f"{title}: bytes an event, mode full", "bytes",
                    {"untraced": "", "jemalloc": "no such mode", "gperftools": "no such mode"})
        _, size, events = full_trace(bench, make)
        line.cells["ours"] = f"{size / events:.2f}"
        compared(line, size / events, 1.5)
        line.notes.append(f"ours: {events:,} events, {megabytes(size)}: with times, threads, processes, modules and memory figures")
        try:
            _, size, events, raw = heaptrack_trace(bench, make)
            line.cells["heaptrack"] = f"{size / events:.2f}"
            line.notes.append(f"heaptrack: {events:,} events, {megabytes(raw)} as recorded ({raw / events:.1f} an event), "
                              f"{megabytes(size)} interpreted and compressed by zstd, as it is kept")
        except Failed as reason:
            line.cells["heaptrack"] = "-"
            line.notes.append(f"heaptrack: {reason}")
        answer.append(line)
    return answer


def p10(bench):
    answer = []
    for letter, title, make in WORKLOADS:
        session, _, events = full_trace(bench, make)

        def read(argv, count):
            run = bench.checked(["taskset", "-c", "0", *argv])
            return {"speed": count / run.wall_s, "memory": run.max_rss}

        variants = {"ours": lambda s=session, e=events: read([bench.leakview, "report", s], e)}
        notes = []
        try:
            file, _, their_events, _ = heaptrack_trace(bench, make)
            variants["heaptrack"] = lambda f=file, e=their_events: read(["heaptrack_print", "-f", f], e)
        except Failed as reason:
            notes.append(f"heaptrack: {reason}")
        results = bench.in_turn(variants)
        notes += [f"{name}: {reason}" for name, reason in results.items() if isinstance(reason, str)]
        speeds = {name: median(results, name, "speed") for name in ("ours", "heaptrack")}
        sizes = {name: median(results, name, "memory") for name in ("ours", "heaptrack")}
        speed = Line("P10" + letter, f"full trace of {title}: events/s read on one core, ours / heaptrack_print", "M/s",
                     {name: "-" if value is None else f"{value / 1e6:.1f}" for name, value in speeds.items()},
                     notes=notes, samples=results)
        memory = Line("P10" + letter, "  its peak memory, ours / heaptrack_print", "MB",
                      {name: "-" if value is None else f"{value / 1e6:.1f}" for name, value in sizes.items()})
        for line, values, limit, above in ((speed, speeds, 3, True), (memory, sizes, 0.5, False)):
            line.cells.update(jemalloc="no such mode", gperftools="no such mode")
            if None not in values.values():
                compared(line, values["ours"] / values["heaptrack"], limit, above)
        speed.notes.append(f"ours: `report` with names, lines and verdicts, {events:,} events; heaptrack_print: a trace whose "
                           "names were resolved before")
        answer += [speed, memory]
    return answer


# P9, by count: 72 hours at 200 000 pairs a second, one in 10 000 surviving.
PAIRS_OF_72_HOURS = 72 * 3600 * 200_000
ONE_IN = 10_000


class DiskUse:
    """The most that the files of a folder take on the disk at a time, looked at 50 times a second."""

    def __init__(self, folder):
        self.folder, self.most, self._end = folder, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self):
        while not self._end.wait(0.02):
            total = 0
            for path in glob.glob(os.path.join(self.folder, "*.[zt]*")):
                try:
                    total += os.stat(path).st_size
                except FileNotFoundError:  # an old segment went
                    pass
            self.most = max(self.most, total)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()


def survivor_run(bench, pairs, one_in, settings):
    """bench_churn with one block in `one_in` left alive: most trace bytes at a time, bytes at the end, greatest resident size."""
    argv = [bench.program("bench_churn"), f"--pairs={pairs}", "--live=64", f"--survive={one_in}"]
    variables = peers.ours(bench, "survivors", **settings)
    session = bench.existing("session")
    with DiskUse(session) as use:
        run = bench.checked(argv, variables)
    sessions.check_session(bench, session, "survivors", 0)
    size = sum(os.path.getsize(path) for path in glob.glob(os.path.join(session, "*.zst")))
    plain = bench.checked(argv)
    return {"most": max(use.most, size), "size": size, "extra": run.max_rss - plain.max_rss, "seconds": run.wall_s}


def p9(bench):
    pairs = 400_000 if bench.quick else 40_000_000
    # Without the figures that come by the clock: a short run at full speed has few of them for its pairs.
    runs = [survivor_run(bench, count, ONE_IN, {"OLLAMATRACE_SAMPLE_MS": "0"}) for count in (pairs // 4, pairs // 2, pairs)]
    a_survivor = (runs[2]["size"] - runs[0]["size"]) / ((pairs - pairs // 4) / ONE_IN)
    extrapolated = runs[0]["size"] + a_survivor * PAIRS_OF_72_HOURS / ONE_IN
    grown = Line("P9", f"one block in {ONE_IN:,} survives: trace of 72 h at 200,000 pairs/s, extrapolated by count", "MB",
                 {"ours": f"{extrapolated / 1e6:.0f}", "heaptrack": "without end", "jemalloc": "no trace",
                  "gperftools": "no trace"})
    compared(grown, extrapolated / 1e6, 256, digits=0)
    grown.notes.append("ours: " + ", ".join(f"{run['size'] / 1e3:,.0f} kB after {count:,} pairs" for run, count in
                                            zip(runs, (pairs // 4, pairs // 2, pairs)))
                       + f": {a_survivor:.1f} bytes a survivor; figures that come by the clock are left out")
    memory = Line("P9", "  extra resident memory in the target", "MB", {"ours": f"{runs[2]['extra'] / 1e6:.1f}"})
    compared(memory, runs[2]["extra"] / 1e6, 64, digits=1)
    answer = [grown, memory]
    capped = Line("P9", "  one in 10 survives, OLLAMATRACE_MAX_BYTES=4M: most bytes of all files at a time", "MB", {})
    few = survivor_run(bench, pairs // 10, 10, {"OLLAMATRACE_MAX_BYTES": "0"})
    run = survivor_run(bench, pairs // 10, 10, {"OLLAMATRACE_MAX_BYTES": "4M"})
    capped.cells["ours"] = f"{run['most'] / (1 << 20):.2f}"
    capped.unit = "MiB"
    compared(capped, run["most"] / (1 << 20), 4)
    capped.notes.append(f"without a limit the same {pairs // 10:,} pairs take {few['size'] / (1 << 20):.1f} MiB")
    return [*answer, capped]
