#!/usr/bin/env python3
"""Mode sample, from the hooks to the report: estimates against what a program says it did, for each of its stacks.

A function of sample_target allocates blocks of one size X, so that the error of an estimate is known beforehand: of N
blocks each is drawn with the chance P = 1 - exp(-X / Y), and their number is estimated with the standard error
sqrt(N (1 - P) / P).
"""

import collections
import math
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "integration"))
import tracing  # noqa: E402

TARGET = os.path.join(tracing.BUILD, "bin", "exactness_sample_target")
# Fewer draws than these are far from normally distributed: 6 standard errors say little.
FEW_DRAWS = 12
FIGURES = ("allocations", "frees", "live_blocks", "live_bytes")

Truth = collections.namedtuple("Truth", "allocations bytes frees live_blocks live_bytes")


class SampleTest(tracing.TestCase):
    def trace(self, sample, kilobytes, *arguments):
        """What the program said, by function; and what the report says, by function and of the process."""
        session = self.folder()
        done = tracing.run([TARGET, *arguments], tracing.traced_environment(session, OLLAMATRACE_MODE=sample))
        self.assertEqual((done.status, done.stderr), (0, b""))
        truth = {}
        for line in done.stdout.decode().splitlines():
            name, *figures = line.split()
            truth[name] = Truth(*map(int, figures))
        report = tracing.report(session)
        self.assert_nothing_lost(report)
        self.assertEqual(report["processes"][0]["sample_bytes"], kilobytes << 10)
        found = collections.defaultdict(collections.Counter)
        for group in report["groups"]:
            owners = {frame["function"] for frame in group["frames"]} & set(truth)
            for name in owners:
                for figure in FIGURES:
                    found[name][figure] += group[figure]
                found[name]["drawn"] += group["standard_error"]["sampled_blocks"]
                for figure in FIGURES:
                    found[name][figure + " variance"] += group["standard_error"][figure] ** 2
        return truth, found, report["processes"][0]["host"]

    def error_of(self, name, true, figure, sample_bytes):
        """The true figure of a function's blocks, its estimate's standard error, and how many draws that rests on."""
        size = int(re.fullmatch(r"[A-Za-z]+(\d+)", name).group(1))
        chance = -math.expm1(-size / sample_bytes)
        blocks = true.live_blocks if figure.startswith("live") else getattr(true, figure)
        unit = size if figure == "live_bytes" else 1
        return blocks * unit, unit * math.sqrt(blocks * (1 - chance)) / chance**0.5, blocks * chance

    def check_stacks(self, found, truth, sample_bytes):
        """How many figures were compared."""
        compared = 0
        for name, true in truth.items():
            for figure in FIGURES:
                wanted, error, draws = self.error_of(name, true, figure, sample_bytes)
                if draws < FEW_DRAWS:
                    continue
                compared += 1
                self.assertLessEqual(abs(found[name][figure] - wanted), 6 * error + 1, (name, figure, wanted, found[name]))
                # What the report says of its error: where that can be told well.
                if draws >= 5 * FEW_DRAWS and error > 1:
                    said = math.sqrt(found[name][figure + " variance"])
                    self.assertTrue(error / 2 < said + 1 and said < error * 2 + 1, (name, figure, error, said))
        return compared

    def check_sums(self, host, truth, sample_bytes):
        for figure in FIGURES:
            figures = [self.error_of(name, true, figure, sample_bytes) for name, true in truth.items()]
            wanted = sum(of[0] for of in figures)
            error = math.sqrt(sum(of[1] ** 2 for of in figures))
            # The process has some blocks of its own: of vectors, threads, stdio.
            others = 64 << 20 if figure == "live_bytes" else 20_000
            self.assertLessEqual(abs(host[figure] - wanted), 6 * error + others, (figure, wanted, host))

    def test_estimates_are_within_six_standard_errors(self):
        for kilobytes, least in ((16, 70), (512, 30)):
            truth, found, host = self.trace(f"sample:{kilobytes}K", kilobytes)
            self.assertEqual(len(truth), 21)
            self.assertGreaterEqual(self.check_stacks(found, truth, kilobytes << 10), least)
            self.check_sums(host, truth, kilobytes << 10)

    def test_nothing_is_live_after_everything_was_freed(self):
        for kilobytes in (1, 16, 512):
            truth, found, host = self.trace(f"sample:{kilobytes}K", kilobytes, "free")
            self.assertEqual([name for name, true in truth.items() if true.live_blocks], [])
            self.assertEqual(found, {})  # no group of theirs: none of their blocks is live
            self.check_sums(host, truth, kilobytes << 10)


if __name__ == "__main__":
    tracing.main()
