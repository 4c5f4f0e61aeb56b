"""What a table of figures is worth nothing without: machine, versions, settings, command, date."""

import datetime
import os
import platform
import sys

import peers

HEAD = """# Benchmarks

Written by `tests/bench/run`: the programs in turn, medians. Where the time goes in the rows that miss their goal is told in
[PROFILES.md](PROFILES.md).

"""


def _first(path, prefix):
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.startswith(prefix):
                    return line.split(":" if ":" in line else "=", 1)[1].strip().strip('"')
    except OSError:
        pass
    return "unknown"


def facts(bench, options):
    """{name: text}, in the order in which they are printed."""
    found = peers.versions(bench)
    revision = bench.command(["git", "-C", bench.source, "describe", "--always", "--dirty"])
    compiler = bench.command(["g++", "--version"])
    return {
        "date": datetime.date.today().isoformat(),
        "command": "tests/bench/run " + " ".join(_shown(sys.argv[1:])),
        "machine": f"{os.cpu_count()} CPUs, {_first('/proc/cpuinfo', 'model name')}, "
                   f"{_first('/proc/meminfo', 'MemTotal')}, {platform.machine()}",
        "system": f"{_first('/etc/os-release', 'PRETTY_NAME')}, Linux {platform.release()}, "
                  f"{' '.join(platform.libc_ver())}",
        "versions": f"ollamatrace {revision.stdout.strip() or 'unknown'}; " + (
            compiler.stdout.splitlines() or ["no g++"])[0] + "; " + "; ".join(f"{k} {v}" for k, v in found.items()),
        "rounds": f"{options.rounds}" + (", --quick: figures mean nothing" if options.quick else ""),
        "ours": "mode survivors unless the row says another, default settings",
        **peers.LEGEND,
    }


def _shown(arguments):
    """Paths outside the project are nobody's business."""
    return [argument if not os.path.isabs(argument.split("=")[-1]) else argument.split("=")[0] + "=..."
            if "=" in argument else "..." for argument in arguments]


def markdown_head(found):
    return HEAD + "\n".join(f"- {name}: {value}" for name, value in found.items()) + "\n\n"
