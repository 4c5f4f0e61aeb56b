"""P11: an empty program, from its start to its end."""

import peers
from measure import median
from table import Line, compared

# So short a run is repeated this often within one round, all variants in turn.
RUNS = 20


def p11(bench):
    def measure(environment):
        return {"wall_ns": bench.checked([bench.program("bench_empty")], environment(bench)).wall_s * 1e9}

    environments = {
        "untraced": peers.untraced, "ours": lambda b: peers.ours(b, "survivors"), "heaptrack": peers.heaptrack,
        "jemalloc": peers.jemalloc_every, "gperftools": peers.gperftools_every}
    results = bench.in_turn({name: lambda e=environment: measure(e) for name, environment in environments.items()},
                            rounds=bench.rounds * (2 if bench.quick else RUNS))
    plain = median(results, "untraced", "wall_ns")
    line = Line("P11", "start-up: an empty program, traced - untraced", "ms", {}, samples=results)
    for column in environments:
        value = median(results, column, "wall_ns")
        if isinstance(results[column], str):
            line.notes.append(f"{column}: {results[column]}")
        if plain is None or value is None:
            line.cells[column] = "-"
        else:
            line.cells[column] = f"{plain / 1e6:.2f}" if column == "untraced" else f"+{(value - plain) / 1e6:.2f}"
    own = median(results, "ours", "wall_ns")
    return [compared(line, None if own is None or plain is None else (own - plain) / 1e6, 5)]
