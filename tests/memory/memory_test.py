#!/usr/bin/env python3
"""What a report says of memory, held against the kernel's figures and against what malloc_trim really returns."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "integration"))
import tracing  # noqa: E402

FRAGMENT = os.path.join(tracing.BUILD, "bin", "fragment")


class Target:
    """A program that takes orders on stdin and answers with its anonymous memory."""

    def __init__(self, session, *command, **settings):
        self.session = session
        self.process = subprocess.Popen(
            command, env=tracing.traced_environment(session, **settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.anonymous = self.answer()

    def answer(self):
        return int(self.process.stdout.readline())

    def order(self, what):
        self.process.stdin.write(what.encode() + b"\n")
        self.process.stdin.flush()
        self.anonymous = self.answer()
        return self.anonymous

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(tracing.COMMAND_SECONDS)

    def fragmentation(self):
        answer = tracing.report(self.session)
        return answer["fragmentation"]["host"][0], answer


class FragmentationTest(tracing.TestCase):
    def check(self, shape, *more):
        target = Target(self.folder(), FRAGMENT, shape, *more, OLLAMATRACE_SAMPLE_MS="50")
        before = target.anonymous
        found, _ = target.fragmentation()
        returned = before - target.order("trim")
        near = 0.1 * (40 << 20)
        self.assertLessEqual(abs(returned - found["trimmable"]), max(0.1 * returned, 1 << 18),
                             f"malloc_trim returned {returned}, predicted {found['trimmable']}")
        # What the survivors hold, the survivors named, then freed.
        held = target.anonymous
        found, _ = target.fragmentation()
        self.assertLess(found["trimmable"], near / 4)
        pins = [p for p in found["pins"] if any("KeepSurvivor" in (f["function"] or "") for f in p["frames"])]
        target.order("free")
        released = held - target.order("trim")
        predicted = sum(p["released"] for p in pins)
        self.assertLessEqual(abs(released - predicted), max(0.1 * released, 1 << 18),
                             f"released {released}, predicted {predicted}")
        self.assertEqual(target.end(), 0)
        return returned, released, pins

    def test_comb(self):
        returned, released, pins = self.check("comb")
        self.assertGreater(returned, 30 << 20)
        self.assertGreater(released, 2 << 20)
        self.assertEqual(len(pins), 1)

    def test_a_survivor_on_each_page(self):
        returned, released, pins = self.check("pages")
        self.assertLess(returned, 1 << 20)
        self.assertGreater(released, 39 << 20)
        self.assertGreater(pins[0]["pinned"], 38 << 20)
        self.assertLess(pins[0]["bytes"], 1 << 20)

    def test_the_map_shows_who_pins(self):
        target = Target(self.folder(), FRAGMENT, "pages", OLLAMATRACE_SAMPLE_MS="50")
        found, _ = target.fragmentation()
        self.assertEqual(target.end(), 0)
        heap = found["heaps"][0]
        cells = heap["map"]["cells"]
        self.assertLessEqual(len(cells), 1024)
        self.assertLess(len(cells) * heap["map"]["cell_bytes"] - heap["size"], 2 * heap["map"]["cell_bytes"])
        self.assertEqual(sum(held for held, _, _ in cells), heap["held"])
        self.assertTrue(all(used <= held <= heap["map"]["cell_bytes"] for held, used, _ in cells))
        survivor = [any("KeepSurvivor" in (f["function"] or "") for f in p["frames"]) for p in found["pins"]].index(True)
        self.assertGreater(sum(held for held, _, pin in cells if pin == survivor), 38 << 20)

    def test_one_at_the_top(self):
        returned, _, _ = self.check("top")
        self.assertGreater(returned, 39 << 20)

    def test_in_an_arena(self):
        returned, released, _ = self.check("comb", "thread")
        self.assertGreater(returned, 30 << 20)
        self.assertGreater(released, 2 << 20)

    def test_an_arena_keeps_its_top(self):
        # Small chunks: nothing gives an arena's top back, and that is what is predicted.
        returned, released, pins = self.check("pages", "thread")
        self.assertLess(returned + released, 1 << 20)
        self.assertGreater(pins[0]["pinned"], 38 << 20)


class AccountingTest(tracing.TestCase):
    def test_adds_up_while_it_runs(self):
        target = Target(self.folder(), FRAGMENT, "comb", OLLAMATRACE_SAMPLE_MS="50")
        answer = tracing.report(target.session)
        rows = self.assert_accounted(answer["processes"][0])
        total = answer["processes"][0]["memory"]["accounting"]["total"]
        self.assertLessEqual(abs(total - target.anonymous), 0.02 * target.anonymous)
        self.assertGreater(rows["retained"], 38 << 20)
        self.assertGreater(rows["live_heap"], 600 << 10)
        text = tracing.leakview("report", target.session).stdout
        self.assertIn("Memory of fragment", text)
        table = text.split("Memory of fragment")[1].split("in all")[0].splitlines()[1:]
        # A row's bytes end in column 17; its parts stand further right.
        figures = [int(line[:17].strip().replace(",", "")) for line in table if line[:17].strip()]
        self.assertEqual(sum(figures[:-1]), figures[-1], text)
        self.assertEqual(target.end(), 0)

    def test_the_last_look_is_taken_at_the_end(self):
        session = self.folder()
        done = tracing.run(["python3", "-c", "import time; x = [bytes(1000 + i % 9) for i in range(50000)]; time.sleep(0.2)"],
                           tracing.traced_environment(session, PYTHONMALLOC="malloc"))
        self.assertEqual(done.status, 0, done.stderr)
        answer = tracing.report(session)
        process = [p for p in answer["processes"] if p["memory"]["accounting"] and "python" in p["exe"]][-1]
        self.assert_accounted(process)

    def test_killed(self):
        target = Target(self.folder(), FRAGMENT, "pages", OLLAMATRACE_SAMPLE_MS="20")
        tracing.wait_until(lambda: self.recorded(target.session) >= 40 << 20, "a look at the memory map")
        target.process.kill()
        target.process.wait()
        answer = tracing.report(target.session)
        self.assertEqual(answer["processes"][0]["end"], "killed")
        self.assert_accounted(answer["processes"][0])
        target.process.stdin.close()
        target.process.stdout.close()

    def recorded(self, session):
        """The total of the last look that the library itself took, as a copy of the session tells."""
        answer = tracing.report("--until=1000d", session)
        accounts = [p["memory"]["accounting"] for p in answer["processes"]]
        return max((account["total"] for account in accounts if account), default=0)


if __name__ == "__main__":
    tracing.main()
