"""scenarios_server.py NAME: a real llama-server with real requests, whose truth stands in server.json.

Traces the server alone, into the folder of CORPUS_MARKS, and ends it by SIGKILL, as Ollama does. Exit code 77: pip cannot
fetch the server.
"""

import hashlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "integration"))
import llama_server  # noqa: E402: found by the line above
import tracing  # noqa: E402

REQUESTS = 120
# Bytes that a planted leak (tests/programs/planted_leak.cc) leaves, and in each so manieth request; options of the server;
# whether each prompt is new to it.
SCENARIOS = {
    "prompt_cache": (0, 1, (), True),
    "prompt_cache_at_cap": (0, 1, ("--cache-ram", "1"), True),
    "no_prompt_cache": (0, 1, ("--cache-ram", "0"), True),
    "one_prompt": (0, 1, (), False),
    "planted": (3000, 1, (), True),
    "planted_tiny": (24, 1, (), True),
    "planted_one_in_ten": (20000, 10, (), True),
    "planted_without_cache": (500, 1, ("--cache-ram", "0"), False),
}


def main():
    planted, every, options, distinct = SCENARIOS[sys.argv[1]]
    session = os.path.dirname(os.environ["CORPUS_MARKS"])
    python = llama_server.wheel_python()
    if python is None:
        return tracing.SKIPPED
    settings = {"PLANTED_LEAK_BYTES": str(planted), "PLANTED_LEAK_EVERY": str(every)} if planted else {}
    environment = tracing.traced_environment(session, **settings)
    if planted:
        environment["LD_PRELOAD"] += ":" + llama_server.PLANTED_LEAK
    command = [python, llama_server.MAIN, llama_server.tiny_model(), *options]
    log = os.path.join(tracing.temporary_folder("server"), "log")
    llama_server.serve(command, environment, log, session, REQUESTS,
                       lambda number: hashlib.sha256(str(number if distinct else 0).encode()).hexdigest(),
                       how=tracing.signal.SIGKILL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
