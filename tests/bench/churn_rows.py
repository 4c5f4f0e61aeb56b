"""P1, P2, P3 and P6: bench_churn, pairs of malloc and free below 25 frames."""

import peers
import sessions
from measure import Failed, median
from table import Line, compared, number

PAIRS = 1_000_000
STACKS = 1000
MANY_STACKS = 1 << 20
# jemalloc and gperftools take microseconds for each pair, whatever their number: a tenth of the pairs tells it.
SLOW = 10

# The tracers that record every allocation: column, the environment of the run, the variant that it is compared with.
EVERY = (
    ("ours", lambda bench: peers.ours(bench, "survivors"), "untraced"),
    ("heaptrack", peers.heaptrack, "untraced"),
    ("jemalloc", peers.jemalloc_every, "jemalloc alone"),
    ("gperftools", peers.gperftools_every, "tcmalloc alone"),
)
ALONE = (("jemalloc alone", peers.jemalloc_plain), ("tcmalloc alone", peers.tcmalloc_plain))

# The two figures of a run: over the loop, and over the whole process, so that no work hides behind the loop.
LOOP, WHOLE = "loop_ns_a_pair", "process_ns_a_pair"


def churn(bench, pairs, arguments, variables):
    """One run's wall times, for each pair of a thread."""
    run = bench.checked([bench.program("bench_churn"), f"--pairs={pairs}", *arguments], variables)
    words = run.stdout.split()
    if words[:1] != ["loop_ns"]:
        raise Failed(f"bench_churn printed {run.stdout!r}")
    return {LOOP: int(words[1]) / pairs, WHOLE: run.wall_s * 1e9 / pairs}


def ours(bench, mode, pairs, arguments, allocations):
    """The function that measures ours; its first run is checked for what it recorded."""
    checked = []

    def measure():
        figures = churn(bench, pairs, arguments, peers.ours(bench, mode))
        if not checked:
            sessions.check_session(bench, bench.existing("session"), mode.partition(":")[0], allocations)
            checked.append(True)
        return figures

    return measure


def variants(bench, pairs, arguments, threads=1):
    """{name: function} for in_turn: every tracer, and what it is compared with."""
    runs = {"untraced": lambda: churn(bench, pairs, arguments, {}),
            "ours": ours(bench, "survivors", pairs, arguments, pairs * threads),
            "heaptrack": lambda: churn(bench, pairs, arguments, peers.heaptrack(bench))}
    for name, environment in (*ALONE, ("jemalloc", peers.jemalloc_every), ("gperftools", peers.gperftools_every)):
        runs[name] = lambda e=environment: churn(bench, pairs // SLOW, arguments, e(bench))
    return runs


def added(results, name, figure):
    """What the tracer adds to a pair, in ns, over the same program without it."""
    base = {column: compared_with for column, _, compared_with in EVERY}[name]
    with_it, without = median(results, name, figure), median(results, base, figure)
    return None if with_it is None or without is None else with_it - without


def ratio(results, figure):
    """Ours / heaptrack's."""
    own, theirs = added(results, "ours", figure), added(results, "heaptrack", figure)
    return None if own is None or not theirs else own / theirs


def line(results, name, workload, figure):
    cells = {"untraced": number(median(results, "untraced", figure))}
    for column, _, _ in EVERY:
        value = added(results, column, figure)
        cells[column] = "-" if value is None else f"{value:+,.0f}"
    value = ratio(results, figure)
    return Line(name, workload, "ns a pair", cells, figure=value, figure_text=number(value, 2))


def lines_of(results, name, workload, goal=None):
    """The line of the loop and the one of the whole process."""
    loop = line(results, name, workload, LOOP)
    if goal is not None:
        compared(loop, loop.figure, goal)
    loop.samples = results
    loop.notes = [f"{column}: {reason}" for column, reason in results.items() if isinstance(reason, str)]
    return [loop, line(results, name, "  the same, whole process with start and exit", WHOLE)]


def plain_churn(bench, name, workload, arguments, goal=None):
    pairs = PAIRS // 20 if bench.quick else PAIRS
    return lines_of(bench.in_turn(variants(bench, pairs, arguments)), name, workload, goal)


def p1(bench):
    lines = plain_churn(bench, "P1", "churn, 25 frames, 1000 stacks that branch at every depth", [f"--stacks={STACKS}"], 0.20)
    lines[0].notes.append(f"the figure is ours / heaptrack's; jemalloc and gperftools do a {SLOW}th of the pairs here and in "
                          "P2 and P3: their cost does not depend on it")
    return lines


def p1b(bench):
    return plain_churn(bench, "P1b", "P1, only the inner ten frames differ", [f"--stacks={STACKS}", "--shape=inner"])


def p1c(bench):
    return plain_churn(bench, "P1c", "P1, one stack", ["--stacks=1"])


def p1d(bench):
    lines = plain_churn(bench, "P1d", "P1, 64 blocks live: none is freed right after it was allocated",
                        [f"--stacks={STACKS}", "--live=64"])
    lines[0].notes.append("the drain folds a block that is freed by its thread's next event in passing; here it cannot")
    return lines


def p2(bench):
    pairs = PAIRS // 20 if bench.quick else PAIRS
    arguments = [f"--stacks={STACKS}"]
    runs = variants(bench, pairs, [*arguments, "--threads=2"], threads=2)
    runs["untraced, 1 thread"] = lambda: churn(bench, pairs, arguments, {})
    runs["ours, 1 thread"] = lambda: churn(bench, pairs, arguments, peers.ours(bench, "survivors"))
    results = bench.in_turn(runs)
    lines = lines_of(results, "P2", "P1 with 2 threads, wall", 0.08)
    against = Line("P2", "  its added time a pair / that with 1 thread", "ns a pair", {})
    alone, alone_plain = median(results, "ours, 1 thread", LOOP), median(results, "untraced, 1 thread", LOOP)
    together = added(results, "ours", LOOP)
    if together is not None and alone is not None and alone_plain is not None:
        one = alone - alone_plain
        against.cells["ours"] = f"{together:+,.0f} / {one:+,.0f}"
        compared(against, together / one, 1.00)
    return [*lines, against]


def p3(bench):
    stacks = 1 << 14 if bench.quick else MANY_STACKS
    results = bench.in_turn(variants(bench, 2 * stacks, [f"--stacks={stacks}", "--order=turn"]))
    return lines_of(results, "P3", f"churn, 25 frames, {stacks:,} stacks that branch at every depth, each twice", 0.25)


def p6(bench):
    pairs = PAIRS // 20 if bench.quick else PAIRS
    arguments = [f"--stacks={STACKS}"]
    runs = {name: lambda e=environment: churn(bench, pairs, arguments, e(bench)) for name, environment in (
        ("untraced", peers.untraced), *ALONE, ("jemalloc", peers.jemalloc_sampling),
        ("gperftools", peers.gperftools_sampling))}
    runs["ours"] = ours(bench, "sample:512K", pairs, arguments, 0)
    results = bench.in_turn(runs)
    lines = []
    for figure, workload in ((LOOP, "P1 with sample:512K, traced / untraced"),
                             (WHOLE, "  the same, whole process with start and exit")):
        each = Line("P6", workload, "ratio", {"heaptrack": "no such mode"})
        plain = median(results, "untraced", figure)
        each.cells["untraced"] = "-" if plain is None else f"{plain:,.0f} ns"
        for column, base in (("ours", "untraced"), ("jemalloc", "jemalloc alone"), ("gperftools", "tcmalloc alone")):
            with_it, without = median(results, column, figure), median(results, base, figure)
            value = None if with_it is None or without is None else with_it / without
            each.cells[column] = number(value, 3)
            if column == "ours" and figure == LOOP:
                compared(each, value, 1.02, digits=3)
            elif column == "ours" and value is not None:
                each.figure, each.figure_text = value, f"{value:.3f}"
        lines.append(each)
    lines[0].samples = results
    lines[0].notes = [f"{column}: {reason}" for column, reason in results.items() if isinstance(reason, str)]
    lines[0].notes.append("jemalloc: its default rate, 512 KiB, against jemalloc without prof; gperftools: "
                          "TCMALLOC_SAMPLE_PARAMETER=524288 against tcmalloc without it")
    if isinstance(results["ours"], str):
        lines[0].why = "sample mode not available" if "not recorded in mode" in results["ours"] else "no figure"
    return lines
