"""`ollama-leakview export`: each format read by the program that it is for, and its sums held against the report's."""

import collections
import csv
import fcntl
import gzip
import json
import os
import re
import shutil
import sqlite3
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))

import tracing  # noqa: E402

DRIVE = os.path.join(tracing.SOURCE, "examples", "leaky_server", "drive.py")
LEAK = "leaky::LeakMapping(char const*)"


def venv_python(package, check):
    """A Python with a package from PyPI, in a virtual environment below the build folder; None, with the reason told."""
    folder = os.path.join(tracing.BUILD, re.split("[=<>]", package)[0] + "-venv")
    python = os.path.join(folder, "bin", "python")
    with open(folder + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(python) and tracing.run([python, "-c", check]).status == 0:
            return python
        shutil.rmtree(folder, ignore_errors=True)
        for command in ([sys.executable, "-m", "venv", folder],
                        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:",
                         "--retries", "1", "--timeout", "30", package], [python, "-c", check]):
            try:
                done = tracing.run(command)
            except (OSError, tracing.subprocess.TimeoutExpired) as error:
                print(f"{command[0]}: {error}")
                return None
            if done.status != 0:
                print(done.stderr.decode("utf-8", "replace")[-500:])
                return None
    return python


class ExportTest(tracing.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.all = tracing.temporary_folder("export")
        cls.session = os.path.join(cls.all, "session")
        done = tracing.run([sys.executable, DRIVE, "--requests", "150", "--leak", "all",
                            "--marks", os.path.join(cls.session, "marks.jsonl"), "--env", f"LD_PRELOAD={tracing.LIB}",
                            "--env", f"OLLAMATRACE_DIR={cls.session}", "--", tracing.LEAKY_SERVER, "--port=0"])
        assert done.status == 0, done.stdout + done.stderr
        cls.report = tracing.report(cls.session)
        cls.memory = [group for group in cls.report["groups"] if group["counts_as_memory"]]
        cls.live_bytes = sum(group["live_bytes"] for group in cls.memory)
        cls.live_blocks = sum(group["live_blocks"] for group in cls.memory)
        assert cls.live_bytes > 10 << 20

    def export(self, form, *more, suffix=""):
        path = os.path.join(self.folder(), "out." + form + suffix)
        done = tracing.leakview("export", f"--format={form}", "-o", path, *more, self.session)
        self.assertEqual((done.status, done.stdout, done.stderr), (0, "", ""))
        self.assertEqual(os.listdir(os.path.dirname(path)), [os.path.basename(path)])
        return path

    # -- pprof

    def pprof(self, path, *options):
        done = tracing.run([self.program("go"), "tool", "pprof", "-top", "-nodecount=0", "-nodefraction=0", "-unit=B", *options, path],
                           tracing.plain_environment(PPROF_TMPDIR=self.folder(), GOFLAGS="", GOTOOLCHAIN="local"))
        self.assertEqual(done.status, 0, done.stderr)
        text = done.stdout.decode()
        rows = {}
        for line in text.split("flat%", 1)[1].splitlines()[1:]:
            flat, _, _, cum, _, name = line.split(None, 5)
            rows[name.removesuffix(" (inline)")] = (flat, cum)
        return text, rows

    def test_pprof(self):
        path = self.export("pprof", suffix=".pb.gz")
        text, rows = self.pprof(path)
        self.assertIn("Type: inuse_space", text)
        self.assertIn(f"Total samples = {self.live_bytes}B", text)
        leak = next(group for group in self.memory if group["frames"][0]["function"] == LEAK)
        self.assertEqual(rows[LEAK][0], f"{leak['live_bytes']}B")
        # Also of what was freed: the report lists only stacks that keep something.
        with open(self.export("jsonl"), encoding="utf-8") as file:
            groups = [row for row in map(json.loads, file) if row["type"] == "group" and row["counts_as_memory"]]
        for index, figure in (("inuse_objects", "live_blocks"), ("alloc_objects", "allocations"), ("alloc_space", "allocated_bytes")):
            text, _ = self.pprof(path, "-sample_index=" + index)
            total = sum(group[figure] for group in groups)
            self.assertGreaterEqual(total, self.live_blocks)
            self.assertRegex(text, rf"Total samples = {total}B?\b")

    def test_pprof_labels(self):
        path = self.export("pprof")
        done = tracing.run([self.program("go"), "tool", "pprof", "-tags", "-unit=B", path],
                           tracing.plain_environment(PPROF_TMPDIR=self.folder(), GOFLAGS="", GOTOOLCHAIN="local"))
        self.assertEqual(done.status, 0, done.stderr)
        text = done.stdout.decode()
        for label in ("process:", "domain:", "verdict:"):
            self.assertIn(label, text)
        leaks = sum(group["live_bytes"] for group in self.memory if group["verdict"] == "leak")
        self.assertRegex(text, rf"{leaks}(\.0)?B \([^)]*\): leak\n")

    # -- stacks

    def test_folded(self):
        with open(self.export("folded"), encoding="utf-8") as file:
            lines = file.read().splitlines()
        weights = [int(line.rsplit(" ", 1)[1]) for line in lines]
        self.assertEqual(sum(weights), self.live_bytes)
        server = next(p["pid"] for p in self.report["processes"] if "--runner" not in p["argv"])
        first = max(lines, key=lambda line: int(line.rsplit(" ", 1)[1])).rsplit(" ", 1)[0].split(";")
        self.assertEqual((first[0], first[-1]), (f"leaky_server [{server}]", LEAK))
        with open(self.export("folded", "--metric=live_blocks"), encoding="utf-8") as file:
            self.assertEqual(sum(int(line.rsplit(" ", 1)[1]) for line in file), self.live_blocks)

    def test_speedscope(self):
        """The figures, and what its schema cannot say."""
        with open(self.export("speedscope"), encoding="utf-8") as file:
            data = json.load(file)
        self.assertEqual(data["$schema"], "https://www.speedscope.app/file-format-schema.json")
        frames = data["shared"]["frames"]
        self.assertTrue(all(isinstance(frame["name"], str) and set(frame) <= {"name", "file", "line", "col"} for frame in frames))
        for profile in data["profiles"]:
            self.assertEqual(set(profile), {"type", "name", "unit", "startValue", "endValue", "samples", "weights"})
            self.assertEqual(profile["type"], "sampled")
            self.assertIn(profile["unit"], ("none", "nanoseconds", "microseconds", "milliseconds", "seconds", "bytes"))
            self.assertEqual(len(profile["samples"]), len(profile["weights"]))
            self.assertEqual(sum(profile["weights"]), profile["endValue"] - profile["startValue"])
            self.assertTrue(all(0 <= frame < len(frames) for sample in profile["samples"] for frame in sample))
        first = data["profiles"][data["activeProfileIndex"]]
        self.assertEqual((first["name"], sum(first["weights"])), ("live_bytes", self.live_bytes))
        most = max(range(len(first["weights"])), key=lambda i: first["weights"][i])
        self.assertEqual(frames[first["samples"][most][-1]]["name"], LEAK)

    def speedscope(self):
        """The folder of the published application."""
        folder = self.folder()
        done = tracing.run([self.program("npm"), "pack", "speedscope@1.24.0", "--silent"], cwd=folder)
        if done.status != 0:
            self.skipTest("npm cannot fetch speedscope here")
        with tarfile.open(os.path.join(folder, "speedscope-1.24.0.tgz")) as package:
            package.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        return os.path.join(folder, "package", "dist", "release")

    def test_in_speedscope(self):
        """It opens its own format, and three more of ours."""
        page = os.path.join(tracing.BUILD, "analyzer", "html", "page")
        if not os.path.exists(os.path.join(page, "node_modules")):
            self.skipTest("built without the page: no npm")
        files = {self.export("speedscope"): "speedscope json file", self.export("perfetto"): "Trace Event Format profile",
                 self.export("pprof", suffix=".pb.gz"): "protobuf encoded pprof file", self.export("folded"): "collapsed stack format"}
        environment = tracing.plain_environment(PAGE=page, CHROMIUM=self.program("chromium"),
                                                SPEEDSCOPE=os.path.join(self.speedscope(), "index.html"))
        done = tracing.run([self.program("node"), os.path.join(os.path.dirname(os.path.abspath(__file__)), "speedscope.mjs"), *files],
                           environment)
        self.assertEqual(done.status, 0, done.stderr)
        told = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([(one["file"], one["as"], one["troubles"]) for one in told], [(path, kind, []) for path, kind in files.items()])
        self.assertTrue(all(one["title"].endswith(" - speedscope") for one in told), told)
        self.assertIn("live_bytes (1/", told[0]["shown"])
        self.assertIn("phases", told[1]["shown"])

    def test_speedscope_by_its_schema(self):
        python = venv_python("jsonschema==4.25.1", "import jsonschema")
        if python is None:
            self.skipTest("pip cannot fetch jsonschema here")
        schema = os.path.join(self.speedscope(), "file-format-schema.json")
        check = "import json, jsonschema, sys\njsonschema.validate(*(json.load(open(path)) for path in sys.argv[1:]))\n"
        path = self.export("speedscope")
        done = tracing.run([python, "-c", check, path, schema])
        self.assertEqual(done.status, 0, done.stderr)
        # The schema does tell a profile from none.
        with open(path, encoding="utf-8") as file:
            broken = json.load(file)
        del broken["profiles"][0]["weights"]
        with open(path, "w", encoding="utf-8") as file:
            json.dump(broken, file)
        self.assertNotEqual(tracing.run([python, "-c", check, path, schema]).status, 0)

    # -- heaptrack

    def test_heaptrack(self):
        program = self.program("heaptrack_print")
        path = self.export("heaptrack", suffix=".zst")
        done = tracing.run([program, "--disable-builtin-suppressions", "--print-leaks=1", "--flamegraph-cost-type=leaked",
                            "-F", path + ".stacks", path])
        self.assertEqual(done.status, 0, done.stderr)
        self.assertNotIn(b"failed to parse", done.stderr)
        text = done.stdout.decode()
        self.assertIn(f"calls to allocation functions: {self.live_blocks} ", text)
        with open(path + ".stacks", encoding="utf-8") as file:
            stacks = [line.rsplit(" ", 1) for line in file.read().splitlines()]
        self.assertEqual(sum(int(cost) for _, cost in stacks), self.live_bytes)
        leak = next(group["live_bytes"] for group in self.memory if group["frames"][0]["function"] == LEAK)
        # "function (file)": the innermost frame.
        self.assertEqual(sum(int(cost) for stack, cost in stacks if stack.rstrip(";").rsplit(";", 1)[1].startswith(LEAK)), leak)

    # -- over time

    def test_perfetto(self):
        """The rules of the trace event format. speedscope opens it (above); perfetto's own reader comes from no package registry."""
        with open(self.export("perfetto"), encoding="utf-8") as file:
            events = json.load(file)["traceEvents"]
        self.assertEqual({event["ph"] for event in events}, {"C", "M", "X"})
        last = collections.defaultdict(dict)
        for event in events:
            if event["ph"] == "C":
                self.assertIsInstance(event["ts"], int)
                last[event["pid"]][event["name"]] = event["args"]["bytes"]
        server = next(p for p in self.report["processes"] if "--runner" not in p["argv"])
        self.assertEqual(last[server["pid"]]["heap"], server["host"]["live_bytes"])
        names = [event["name"] for event in events if event["ph"] == "X"]
        self.assertEqual(names, [phase["name"] for phase in self.report["phases"]])

    # -- tables

    def test_csv(self):
        with open(self.export("csv"), encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(sum(int(row["live_bytes"]) for row in rows if row["counts_as_memory"] == "1"), self.live_bytes)
        first = rows[0]
        group = self.report["groups"][0]
        frame = group["frames"][group["blamed_frame"]]
        self.assertEqual((first["rank"], first["verdict"], first["function"], first["line"]),
                         ("1", group["verdict"], frame["function"], str(frame["line"])))
        self.assertEqual(len(first["stack"].split(";")), len(group["frames"]))

    def test_json_lines_in_duckdb(self):
        python = venv_python("duckdb==1.4.1", "import duckdb")
        if python is None:
            self.skipTest("pip cannot fetch duckdb here")
        path = self.export("jsonl", suffix=".jsonl.zst")
        query = ("import duckdb, sys\n"
                 "rows = duckdb.sql(\"select type, count(*), sum(live_bytes) filter (counts_as_memory)"
                 " from read_json('\" + sys.argv[1] + \"', format='newline_delimited', union_by_name=true) group by type\")\n"
                 "import json\nprint(json.dumps([[a, b, int(c or 0)] for a, b, c in rows.fetchall()]))\n")
        done = tracing.run([python, "-c", query, path])
        self.assertEqual(done.status, 0, done.stderr)
        rows = {row[0]: row[1:] for row in json.loads(done.stdout)}
        self.assertEqual(rows["group"][1], self.live_bytes)
        self.assertGreaterEqual(rows["group"][0], len(self.report["groups"]))
        self.assertEqual(rows["process"][0], len(self.report["processes"]))
        self.assertGreater(rows["sample"][0], 200)

    def test_json_lines_are_the_reports_groups(self):
        with open(self.export("jsonl"), encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        groups = [row for row in rows if row["type"] == "group" and row["live_blocks"] > 0]
        for row in groups:
            del row["type"]
        self.assertEqual([self.without_offsets(row) for row in groups], [self.without_offsets(row) for row in self.report["groups"]])

    @staticmethod
    def without_offsets(group):
        """Frames of the same name, file and line are one; whose address it has depends on what else is reported."""
        frames = [{name: value for name, value in frame.items() if name != "offset"} for frame in group["frames"]]
        return {**group, "frames": frames}

    def test_sqlite(self):
        database = sqlite3.connect(self.export("sqlite"))
        self.addCleanup(database.close)
        self.assertEqual(database.execute("pragma integrity_check").fetchone(), ("ok",))
        self.assertEqual(database.execute("select live_bytes from session").fetchone(), (self.live_bytes,))
        self.assertEqual(
            database.execute("select sum(live_bytes) from grp where counts_as_memory").fetchone(),
            (self.live_bytes,))
        first = database.execute(
            "select verdict, function, line, p.pid from grp join frame f on f.id = blamed_frame join process p on p.id = process"
            " where rank = 1").fetchone()
        group = self.report["groups"][0]
        frame = group["frames"][group["blamed_frame"]]
        self.assertEqual(first, (group["verdict"], frame["function"], frame["line"], group["pid"]))
        stack = database.execute("select function from grp_frame join frame on id = frame where grp = 1 order by depth").fetchall()
        self.assertEqual([name for name, in stack], [f["function"] for f in group["frames"]])
        self.assertEqual(database.execute("select count(*) from process").fetchone(), (len(self.report["processes"]),))

    # -- a trace of mode full, as one of mode survivors

    FIGURES = ("live_bytes", "live_blocks", "peak_bytes", "allocations", "frees")

    def figures(self, report):
        """What has to be the same: of each process, and of each group, by what it is."""
        processes = {(p["pid"], p["exe"]): [[one["domain"], one["mapping"], *(one[name] for name in self.FIGURES)] for one in p["domains"]] +
                     [p["end"], p["requests"], p["start"], p["last"]] for p in report["processes"]}
        groups = sorted(json.dumps([g["pid"], g["domain"], g["mapping"], g["frames"], g["first_seen"], g["last_seen"], g["allocated_bytes"],
                                    g["smallest_block"], g["largest_block"], *(g[name] for name in self.FIGURES)]) for g in report["groups"])
        return processes, groups

    def test_trace(self):
        full = os.path.join(self.folder(), "full")
        done = tracing.run([sys.executable, DRIVE, "--requests", "40", "--leak", "all", "--marks", os.path.join(full, "marks.jsonl"),
                            "--env", f"LD_PRELOAD={tracing.LIB}", "--env", f"OLLAMATRACE_DIR={full}",
                            "--env", "OLLAMATRACE_MODE=full", "--", tracing.LEAKY_SERVER, "--port=0"])
        self.assertEqual(done.status, 0, done.stderr)
        before = tracing.report(full)
        self.assertEqual({p["mode"] for p in before["processes"]}, {"full"})
        self.assertGreater(len(before["processes"]), 1)
        survivors = os.path.join(self.folder(), "survivors")
        done = tracing.leakview("export", "--format=trace", "-o", survivors, full)
        self.assertEqual((done.status, done.stdout, done.stderr), (0, "", ""))
        after = tracing.report(survivors)
        self.assertEqual({p["mode"] for p in after["processes"]}, {"survivors"})
        self.assertEqual(self.figures(before), self.figures(after))
        self.assertEqual((before["session"]["live_bytes"], before["session"]["requests"], before["session"]["duration"]),
                         (after["session"]["live_bytes"], after["session"]["requests"], after["session"]["duration"]))
        self.assertEqual(before["coverage"]["lost_events"], after["coverage"]["lost_events"])
        # Nobody's file is written over.
        done = tracing.leakview("export", "--format=trace", "-o", survivors, full)
        self.assertEqual((done.status, done.stderr.count("\n")), (3, 1), done.stderr)
        self.assertIn("is there already", done.stderr)

    def test_progress(self):
        done = tracing.leakview("report", "--progress", self.session)
        self.assertEqual(done.status, 0, done.stderr)
        self.assertRegex(done.stderr, r"^ollama-leakview: reading \S+ \d+ %\n")
        self.assertEqual(tracing.leakview("report", self.session).stderr, "")

    # -- the file

    def test_compression_by_name(self):
        with open(self.export("folded"), "rb") as file:
            plain = file.read()
        with gzip.open(self.export("folded", suffix=".gz"), "rb") as file:
            self.assertEqual(file.read(), plain)
        done = tracing.run([self.program("zstd"), "-dc", self.export("folded", suffix=".zst")])
        self.assertEqual((done.status, done.stdout), (0, plain))
        done = tracing.run([tracing.LEAKVIEW, "export", "--format=folded", "-o", "-", self.session])
        self.assertEqual((done.status, done.stdout), (0, plain))

    def test_bad_arguments(self):
        for arguments, words in ((["--format=pdf", "-o", "x"], "sqlite"), (["-o", "x"], "no format"), (["--format=csv"], "no file"),
                                 (["--format=sqlite", "-o", "-"], "needs a name"), (["--format=trace", "-o", "x", "--top=3"], "no filters"),
                                 (["--format=folded", "--metric=weight", "-o", "x"], "live_blocks")):
            done = tracing.leakview("export", *arguments, self.session)
            self.assertEqual(done.status, 2, arguments)
            self.assertIn(words, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)

    def test_what_cannot_be_written(self):
        for form in ("csv", "sqlite"):
            done = tracing.leakview("export", f"--format={form}", "-o", "/nonexistent/file", self.session)
            self.assertEqual(done.status, 3)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        done = tracing.leakview("export", "--format=csv", "-o", "/dev/full", self.session)
        self.assertEqual(done.status, 3)
        self.assertIn("cannot write /dev/full", done.stderr)

    def test_strange_names(self):
        """C++ names have commas: CSV quotes them."""
        with open(self.export("csv"), encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        with_comma = [row for row in rows if "," in row["stack"]]
        self.assertTrue(with_comma)
        self.assertTrue(all(None not in row and None not in row.values() for row in rows))


if __name__ == "__main__":
    tracing.main()
