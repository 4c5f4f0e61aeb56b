"""P4, P5 and P7b: real programs from start to end, traced / untraced."""

import node_llama
import peers
import sessions
import workloads
from measure import median
from table import Line, compared, number

# Column, and the variant that it is compared with.
COLUMNS = (("ours", "untraced"), ("heaptrack", "untraced"), ("jemalloc", "jemalloc alone"), ("gperftools", "tcmalloc alone"))
# These take microseconds for each allocation: one run tells it.
SLOW = (("jemalloc alone", peers.jemalloc_plain), ("tcmalloc alone", peers.tcmalloc_plain),
        ("jemalloc", peers.jemalloc_every), ("gperftools", peers.gperftools_every))


def times(bench, argv, variables):
    run = bench.checked(argv, variables)
    return {"wall": run.wall_s, "cpu": run.cpu_s}


def lines(bench, name, title, workload, goal, slow=True):
    """The line of the wall time and the one of the CPU time, which has the drain's in it whatever runs beside it.

    `slow`: jemalloc and gperftools run, too, which take minutes."""
    checked = []

    def own():
        figures = times(bench, workload.argv, {**peers.ours(bench, "survivors"), **workload.variables})
        if not checked:
            checked.append(sessions.check_session(bench, bench.existing("session"), "survivors", workload.allocations))
        return figures

    variants = {"untraced": lambda: times(bench, workload.argv, workload.variables), "ours": own,
                "heaptrack": lambda: times(bench, workload.argv, {**peers.heaptrack(bench), **workload.variables})}
    results = bench.in_turn(variants)
    slow = slow and not bench.quick
    if slow:
        results |= bench.in_turn(
            {peer: lambda e=environment: times(bench, workload.slow_argv, {**e(bench), **workload.variables})
             for peer, environment in SLOW}, rounds=1)
    answer = []
    for figure, what in (("wall", title), ("cpu", "  the same, CPU time of all its threads")):
        line = Line(name, what, "ratio", {})
        plain = median(results, "untraced", figure)
        line.cells["untraced"] = "-" if plain is None else f"{plain:.2f} s"
        for column, base in COLUMNS:
            with_it, without = median(results, column, figure), median(results, base, figure)
            value = None if with_it is None or not without else with_it / without
            line.cells[column] = number(value, 2)
            if column == "ours" and value is not None:
                line.figure, line.figure_text = value, f"{value:.2f}"
        answer.append(line)
    compared(answer[0], answer[0].figure, goal)
    answer[0].samples = results
    answer[0].notes = [f"{column}: {reason}" for column, reason in results.items() if isinstance(reason, str)]
    if checked:
        answer[0].notes.append(f"{checked[0]:,} allocations" + (
            "; jemalloc and gperftools: " + ("not run, they take minutes" if not slow else "one run" if
                                             workload.slow_argv == workload.argv else "one run of a smaller input")))
    return answer


def p4(bench):
    return lines(bench, "P4", "python3 with PYTHONMALLOC=malloc parses JSON, traced / untraced",
                 workloads.json_parser(bench), 1.35)


def p5(bench):
    return lines(bench, "P5", "cc1plus -O2 on a template-heavy file, traced / untraced", workloads.compiler(bench), 1.10)


def p7b(bench):
    return lines(bench, "P7b", "node with node-llama-cpp, a tiny model, 5 completions, traced / untraced",
                 node_llama.workload(bench), 1.20, slow=False)
