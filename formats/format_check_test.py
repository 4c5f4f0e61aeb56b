"""The two readers agree: format_check.py, written from FORMAT.md alone, and the C++ one (ollamatrace-dump)."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = sys.argv.pop(1)
SKIPPED = 77


def run(*command):
    return subprocess.run(command, capture_output=True, timeout=120, check=False)


class FormatCheckTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="format_check.")
        self.addCleanup(shutil.rmtree, self.folder)
        self.trace = os.path.join(self.folder, "a.1.2.zst")

    def example(self, seed):
        done = run(os.path.join(BIN, "write_example_trace"), self.trace, str(seed))
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(self.trace, "rb") as file:
            return file.read()

    def write(self, data):
        with open(self.trace, "wb") as file:
            file.write(data)

    def both(self):
        """(exit code, records) of each reader."""
        cpp = run(os.path.join(BIN, "ollamatrace-dump"), self.trace)
        python = run(sys.executable, os.path.join(HERE, "format_check.py"), "--lines", self.trace)
        return (cpp.returncode, cpp.stdout.splitlines()), (python.returncode, python.stdout.splitlines())

    def assert_same(self, at_least=0):
        cpp, python = self.both()
        self.assertEqual(cpp[0], python[0])
        self.assertEqual(len(cpp[1]), len(python[1]))
        for ours, theirs in zip(cpp[1], python[1]):
            self.assertEqual(ours, theirs)
        self.assertGreaterEqual(len(cpp[1]), at_least)

    def test_every_record(self):
        for seed in (1, 2, 3):
            self.example(seed)
            self.assert_same(at_least=5000)

    def test_totals(self):
        self.example(4)
        cpp, _ = self.both()
        kinds, live, pages = {}, {}, {}
        for line in cpp[1]:
            kind, *fields = line.decode().split(" ")
            kinds[kind] = kinds.get(kind, 0) + 1
            if kind in ("alloc", "free", "map", "unmap"):
                record = {name: int(value, 0) for name, value in (field.split("=") for field in fields)}
                if kind == "alloc":
                    live[record["domain"], record["address"]] = record["size"]
                elif kind == "free":
                    live.pop((record["domain"], record["address"]), None)
                elif record["length"] < 1 << 40:  # page by page; not the extreme ones of the example
                    domain = 2 if record.get("function") == 6 else 1
                    for page in range(record["address"], record["address"] + record["length"], 4096):
                        if kind == "map":
                            pages[page] = domain
                        else:
                            pages.pop(page, None)
        done = run(sys.executable, os.path.join(HERE, "format_check.py"), self.trace)
        printed = done.stdout.decode().splitlines()
        for kind, count in kinds.items():
            self.assertIn(f"{kind} {count}", printed)
        heap = [size for (domain, _), size in live.items() if domain == 0]
        self.assertIn(f"live heap blocks={len(heap)} bytes={sum(heap)}", printed)
        broken = [line for line in printed if line.startswith("live break ")]
        size = 4096 * sum(1 for domain in pages.values() if domain == 2)
        size += sum(size for (domain, _), size in live.items() if domain == 2)
        self.assertTrue(broken[0].endswith(f" bytes={size}"), (broken, size))

    def test_damage(self):
        """Truncated and flipped: both keep the same records."""
        data = self.example(5)
        draw = random.Random(1)
        for _ in range(12):
            self.write(data[:draw.randrange(1, len(data))])
            self.assert_same()
        for _ in range(25):
            damaged = bytearray(data)
            for _ in range(draw.choice((1, 1, 5))):
                damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
            self.write(damaged)
            self.assert_same()
        at = draw.randrange(len(data) // 2)
        self.write(data[:at] + data[at + 300:])
        self.assert_same(at_least=100)

    def test_no_trace(self):
        for data in (b"", b"text", bytes(1000)):
            self.write(data)
            cpp, python = self.both()
            self.assertEqual((cpp, python), ((3, []), (3, [])))


if __name__ == "__main__":
    if shutil.which("zstd") is None:
        print("skipped: no zstd command here")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
