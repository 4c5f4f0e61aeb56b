"""Real programs that allocate much: command lines for the rows that trace them."""

import os
import subprocess
import sys

from measure import Failed, Missing

# Debian's own where there is one: it is what the goals were set with, and the same on every machine.
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else os.path.realpath(sys.executable)
PYTHON_VARIABLES = {"PYTHONMALLOC": "malloc"}

TEMPLATES = 6


class Workload:
    """A command with what it needs in its environment, and a shorter one of the same kind for tracers that take microseconds
    for each allocation. `allocations` is what it does at least.
    """

    def __init__(self, argv, allocations, variables=None, slow_argv=None):
        self.argv, self.allocations, self.variables = argv, allocations, variables or {}
        self.slow_argv = slow_argv or argv


def json_parser(bench):
    def argv(rounds):
        return [PYTHON, os.path.join(bench.folder, "parse_json.py"), "1000" if bench.quick else "10000", str(rounds)]

    return Workload(argv(4) if bench.quick else argv(20), 50_000 if bench.quick else 5_000_000, PYTHON_VARIABLES, argv(2))


def compiler(bench):
    """cc1plus alone, on preprocessed text: neither the driver nor the file system is in the figures."""
    def argv(templates):
        source = bench.existing(f"templates-{templates}.ii")
        if not os.path.exists(source):
            bench.checked(["g++", "-std=c++20", "-E", f"-DCOUNT={templates}",
                           os.path.join(bench.folder, "template_heavy.cc"), "-o", source])
        return [program, "-quiet", "-fpreprocessed", "-std=c++20", "-O2", source, "-o", os.devnull,
                *(["-fsyntax-only"] if bench.quick else [])]

    try:
        program = subprocess.run(["g++", "-print-prog-name=cc1plus"], capture_output=True, text=True,
                                 check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise Missing(f"no g++ that tells where its cc1plus is: {error}") from None
    if not os.path.isabs(program):
        raise Failed(f"g++ says that its cc1plus is '{program}'")
    return Workload(argv(1 if bench.quick else TEMPLATES), 200_000 if bench.quick else 2_000_000, slow_argv=argv(1))
