"""Every row of the benchmarks runs and gives a figure of ours, with small workloads; what the figures are does not matter.

A row whose program cannot be had on this machine (no npm, no package registry) is named as skipped; a peer that is not installed
leaves a dash. OLLAMATRACE_BUILD names the build folder.
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "run")
BUILD = os.environ["OLLAMATRACE_BUILD"]
ROWS = ["P1", "P1b", "P1c", "P1d", "P2", "P3", "P4", "P5", "P6", "P7", "P7b", "P8", "P9", "P9b", "P9c", "P9d", "P10", "P11"]


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


class SmokeTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = temporary.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def test_rows(self):
        files = [self.path("late.json"), self.path("early.json")]
        for file, rows in zip(files, (ROWS[4:], ROWS[:4])):
            done = run("--quick", "--rounds=1", f"--build={BUILD}", "--rows=" + ",".join(rows), f"--json={file}")
            self.assertEqual(done.returncode, 0, done.stderr)
        # Two pieces become one table, in the table's order.
        done = run("--merge", *files, "--json", self.path("all.json"), "--markdown", self.path("all.md"))
        self.assertEqual(done.returncode, 0, done.stderr)
        print(done.stdout)
        with open(self.path("all.json"), encoding="utf-8") as file:
            lines = json.load(file)["lines"]
        first = {}
        for line in lines:
            first.setdefault(line["row"], line)
        self.assertEqual(list(first), ROWS)
        for row, line in first.items():
            if not line["why"].startswith("skipped: "):
                self.assertRegex(line["cells"].get("ours", ""), r"\d", f"{row}: {line['why']} {line['notes']}")
        with open(self.path("all.md"), encoding="utf-8") as file:
            self.assertEqual(sum(text.startswith("| P") for text in file), len(lines))

    def test_what_cannot_be_merged(self):
        other = {"facts": {"machine": "another", "system": "s", "versions": "v"}, "lines": []}
        for name, content in (("a.json", {**other, "facts": {**other["facts"], "machine": "one"}}), ("b.json", other)):
            with open(self.path(name), "w", encoding="utf-8") as file:
                json.dump(content, file)
        done = run("--merge", self.path("a.json"), self.path("b.json"))
        self.assertEqual(done.returncode, 2)
        self.assertIn("machine is not that of", done.stderr)

    def test_unknown_row(self):
        done = run("--rows=P99", f"--build={BUILD}")
        self.assertEqual(done.returncode, 2)
        self.assertIn("P99", done.stderr)


if __name__ == "__main__":
    unittest.main()
