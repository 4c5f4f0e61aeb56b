"""Commands run in turn, under nothing, under the library, under its peers; what each took."""

import collections
import os
import shutil
import statistics
import subprocess
import tempfile

# A command's result: exit status, wall and CPU seconds, greatest resident bytes, what it printed.
Run = collections.namedtuple("Run", "status wall_s cpu_s max_rss stdout stderr")

COMMAND_SECONDS = 1800


class Failed(Exception):
    """A measurement cannot be taken; the text says why, in one line."""


class Missing(Failed):
    """What a measurement needs is not on this machine and cannot be fetched."""


class Bench:
    """Where things are, how often they run, and the scratch folder that goes at the end.

    `build` is the build folder with the library and the programs; `quick` asks for small workloads that prove that
    the script works and say nothing about speed; `say` takes lines of progress.
    """

    def __init__(self, build, rounds, quick, say):
        self.build, self.rounds, self.quick, self.say = build, rounds, quick, say
        self.source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        self.folder = os.path.dirname(os.path.abspath(__file__))
        self.library = os.path.join(build, "lib", "libollamatrace.so")
        self.leakview = self.program("ollama-leakview")
        # Beside the library, not in /tmp: there it may be memory, and a trace is written to a disk.
        self.scratch = tempfile.mkdtemp(prefix="bench-", dir=build)

    def program(self, name):
        return os.path.join(self.build, "bin", name)

    def close(self):
        shutil.rmtree(self.scratch, ignore_errors=True)

    def path(self, name):
        """A path in the scratch folder at which there is nothing."""
        path = os.path.join(self.scratch, name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.unlink(path)
        return path

    def existing(self, name):
        """The path of what a run has left in the scratch folder."""
        return os.path.join(self.scratch, name)

    def environment(self, variables):
        """This process's environment without any tracer's, with these variables. Names are looked up anew each time."""
        kept = {name: value for name, value in os.environ.items()
                if name not in ("LD_PRELOAD", "MALLOC_CONF", "HEAPPROFILE", "DUMP_HEAPTRACK_OUTPUT")
                and not name.startswith(("OLLAMATRACE_", "TCMALLOC_"))}
        return {**kept, "OLLAMATRACE_SYMBOL_CACHE": "off", **variables}

    def command(self, argv, variables=None, cwd=None, timeout=COMMAND_SECONDS, stdin=None):
        """Runs `argv` with these variables on top of this environment and returns its Run; Failed when it cannot start."""
        result = self.path("meter.txt")
        assignments = [f"{name}={value}" for name, value in (variables or {}).items()]
        try:
            done = subprocess.run(
                [self.program("bench_meter"), result, *assignments, "--", *argv], env=self.environment({}), cwd=cwd or self.scratch,
                stdin=stdin if stdin is not None else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise Failed(f"{os.path.basename(argv[0])} did not end within {timeout} s") from None
        if done.returncode != 0:
            raise Failed(done.stderr.decode("utf-8", "replace").strip())
        with open(result, encoding="utf-8") as file:
            words = file.read().split()
        figures = dict(zip(words[::2], map(int, words[1::2])))
        return Run(figures["status"], figures["wall_ns"] / 1e9, figures["cpu_ns"] / 1e9, figures["max_rss_bytes"],
                   done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))

    def checked(self, argv, variables=None, **options):
        """As command(), but Failed when it ends with another status than 0."""
        run = self.command(argv, variables, **options)
        if run.status != 0:
            last = (run.stderr.strip().splitlines() or ["no message"])[-1]
            raise Failed(f"{os.path.basename(argv[0])} ended with status {run.status}: {last[:200]}")
        return run

    def in_turn(self, variants, rounds=None):
        """Runs each variant (a dict of name: function that returns figures) once per round, in turn.

        Returns {name: {figure: [value of each round]}}. A variant that fails leaves: its entry is the reason, a text.
        """
        results = {name: collections.defaultdict(list) for name in variants}
        for number in range(rounds or self.rounds):
            for name, measure in variants.items():
                if isinstance(results[name], str):
                    continue
                self.say(f"round {number + 1}: {name}")
                try:
                    for figure, value in measure().items():
                        results[name][figure].append(value)
                except Failed as reason:
                    results[name] = str(reason)
        return results


def median(results, name, figure):
    """The median of a figure of in_turn's; None when that variant failed or was left out."""
    entry = results.get(name)
    if not entry or isinstance(entry, str) or not entry.get(figure):
        return None
    return statistics.median(entry[figure])
