#!/usr/bin/env python3
"""`ollama-leakview scan`: what it finds, what the report says of it, and that the target lives on, whatever happens."""

import json
import os
import random
import signal
import subprocess
import time

import scan_run
from scan_run import tracing

TARGET = os.path.join(scan_run.BIN, "scan_target")
LOST_BLOCKS = os.path.join(scan_run.BIN, "lost_blocks")
KILLS = 40


def children(pid):
    found = []
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{tid}/children", encoding="utf-8") as file:
                found += file.read().split()
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


class ScanTest(tracing.TestCase):
    def target(self, *arguments, **settings):
        target = scan_run.Target(self.folder(), TARGET, *arguments, **settings)
        self.addCleanup(self.end, target)
        return target

    def end(self, target):
        if target.process.poll() is None:
            target.kill()
        target.process.stdin.close()
        target.process.stdout.close()

    def settle(self, target):
        """The library's thread starts with some hundred allocations of the target's."""
        tracing.wait_until(lambda: "ollamatrace" in scan_run.thread_names(target.pid), "the library's thread")

    def assert_lives(self, target):
        """Every thread of the target goes on: nobody traces it, none is stopped, its rounds go up."""
        tracing.wait_until(lambda: all(tracer == 0 and state not in "tT" for state, tracer
                                       in scan_run.states(target.pid).values()), "the target goes on")
        before = int(target.order("count"))
        tracing.wait_until(lambda: int(target.order("count")) > before, "every thread goes on")

    def test_what_is_found(self):
        target = scan_run.Target(self.folder(), LOST_BLOCKS, "chains")
        self.addCleanup(self.end, target)
        found, done = scan_run.scan(target)
        self.assertEqual(found["definitely_lost"], [50, 50 * 88])
        self.assertEqual(found["indirectly_lost"], [450, 50 * sum(16 + 8 * i for i in range(9))])
        self.assertGreater(found["pause_ns"], 0)
        self.assertGreater(found["duration_ns"], found["pause_ns"])
        self.assertIn("paused for", done.stdout)
        self.assertRegex(done.stdout, r"definitely lost +4,400 bytes in 50 blocks")
        # The report says it of the very stacks.
        answer = tracing.report(target.session)
        self.assertEqual(answer["processes"][0]["scan"]["lost"]["definitely"], {"bytes": 4400, "blocks": 50})
        lost = [g for g in answer["groups"] if g["lost"] and g["lost"]["definitely"]["blocks"] > 0]
        self.assertEqual(sum(g["lost"]["definitely"]["bytes"] for g in lost), 4400)
        self.assertEqual(sum(g["lost"]["indirectly"]["blocks"] for g in lost), 450)
        self.assertTrue(all("Chains" in tracing.frames_text(g) for g in lost), [tracing.frames_text(g) for g in lost])
        text = tracing.leakview("report", target.session).stdout
        self.assertIn(", definitely lost (confidence", text)
        self.assertIn("definitely lost: 4,400 bytes in 50 blocks", " ".join(text.split()))
        self.assertTrue(all(g["verdict"] == "leak" for g in lost), [g["verdict"] for g in lost])
        self.assertIn("leak, definitely lost", tracing.leakview("leaks", target.session).stdout)
        # Before the scan nothing was known.
        earlier = tracing.report("--until=0.000001s", target.session)
        self.assertIsNone(earlier["processes"][0]["scan"])

    def test_a_leak_that_is_lost(self):
        session = self.folder()
        target = scan_run.Target(session, TARGET, "1", "1")
        self.addCleanup(self.end, target)
        self.settle(target)
        scan_run.scan(target)
        group = [g for g in tracing.report(session)["groups"] if "LoseSome" in tracing.frames_text(g)][0]
        self.assertGreaterEqual(group["lost"]["definitely"]["blocks"], 9)
        self.assertTrue(any("definitely lost" in sentence for sentence in group["evidence"]), group["evidence"])

    def test_goes_on_afterwards(self):
        target = self.target("8", "3")
        self.settle(target)
        for _ in range(3):
            found, _ = scan_run.scan(target)
            self.assertGreaterEqual(found["definitely_lost"][0], 9)
            self.assert_lives(target)
        # The copies are gone, and nobody has to wait for them.
        tracing.wait_until(lambda: not children(target.pid), "the copies are buried")
        target.order("fork")
        self.assertEqual(target.process.poll(), None)
        answer = tracing.report(target.session)
        self.assertEqual(answer["coverage"]["lost_events"], 0)

    def test_the_scanner_is_killed(self):
        target = self.target("32", "3")
        self.settle(target)
        started = time.monotonic()
        scan_run.scan(target)
        usual = time.monotonic() - started
        chance = random.Random(4)
        finished = 0
        for _ in range(KILLS):
            scanner = subprocess.Popen([tracing.LEAKVIEW, "scan", str(target.pid)], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, env=tracing.plain_environment())
            time.sleep(chance.random() * usual)
            finished += scanner.poll() is not None
            scanner.kill()
            scanner.wait()
            # Within a moment, not when somebody comes to look.
            self.assert_lives(target)
        self.assertLess(finished, KILLS, "no scanner was killed")
        # The next one works, and no copy stays behind.
        scan_run.scan(target)
        self.assert_lives(target)
        tracing.wait_until(lambda: not children(target.pid), "the copies end by themselves")

    def test_the_target_dies(self):
        chance = random.Random(5)
        for round_number in range(8):
            target = self.target("32", "2")
            self.settle(target)
            scanner = subprocess.Popen([tracing.LEAKVIEW, "scan", str(target.pid)], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, env=tracing.plain_environment())
            time.sleep(chance.random() * 0.2)
            target.process.send_signal(signal.SIGKILL if round_number % 2 else signal.SIGTERM)
            output, errors = scanner.communicate(timeout=tracing.COMMAND_SECONDS)
            self.assertIn(scanner.returncode, (0, 3), (output, errors))
            if scanner.returncode == 3:
                self.assertEqual(len(errors.splitlines()), 1, errors)
                self.assertIn(b"process", errors)

    def test_the_target_changes_meanwhile(self):
        target = self.target("64", "2")
        self.settle(target)
        for order in ("fork", "fork", "unmap"):
            scanner = subprocess.Popen([tracing.LEAKVIEW, "scan", str(target.pid)], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, env=tracing.plain_environment())
            while scanner.poll() is None:
                target.order(order)
            output, errors = scanner.communicate()
            self.assertEqual(scanner.returncode, 0, (output, errors))
            self.assert_lives(target)

    def test_two_at_once(self):
        target = self.target("64", "1")
        self.settle(target)
        scanners = [subprocess.Popen([tracing.LEAKVIEW, "scan", str(target.pid)], stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, env=tracing.plain_environment()) for _ in range(2)]
        for scanner in scanners:
            output, errors = scanner.communicate(timeout=tracing.COMMAND_SECONDS)
            self.assertTrue(scanner.returncode == 0 or b"another scan" in errors, (output, errors))
        self.assert_lives(target)

    def assert_one_line(self, words, *parts):
        done = tracing.leakview("scan", *words)
        self.assertEqual(done.status, 3, done)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for part in parts:
            self.assertIn(part, done.stderr)

    def test_without_permission(self):
        target = self.target("1", "1")
        self.settle(target)
        # It is being traced already, by a tracer that holds on to it.
        tracer = self.program("gdb")
        debugger = subprocess.Popen([tracer, "-q", "-p", str(target.pid)], stdin=subprocess.PIPE,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            tracing.wait_until(lambda: any(by for _, by in scan_run.states(target.pid).values()), "gdb attaches")
            self.assert_one_line([str(target.pid)], "traced by another process")
        finally:
            debugger.communicate(b"detach\nquit\n")

    def test_without_the_right_to_trace(self):
        if os.geteuid() != 0:
            self.skipTest("not root: cannot become somebody else")
        # A user who may read nothing of it.
        target = self.target("1", "1")
        self.settle(target)
        done = subprocess.run([tracing.LEAKVIEW, "scan", str(target.pid)], capture_output=True, check=False,
                              env=tracing.plain_environment(), user=65534, group=65534, extra_groups=[])
        self.assertEqual(done.returncode, 3, done)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn(b"run this as root", done.stderr)
        self.assert_lives(target)

    def test_not_traced(self):
        self.assert_one_line([str(os.getpid())], "not traced")
        self.assert_one_line(["2147483646"], "no process")
        for words in ([], ["x"], ["0"], ["1", "2"]):
            self.assertEqual(tracing.leakview("scan", *words).status, 2, words)

    def test_sampled(self):
        target = self.target("1", "1", OLLAMATRACE_MODE="sample:64K")
        self.settle(target)
        self.assert_one_line([str(target.pid)], "sampled")

    def test_a_child_of_fork(self):
        code = ("import os, sys, time\nx = [bytes(1000 + i % 9) for i in range(5000)]\n"
                "if os.fork(): os.wait(); sys.exit(0)\n"
                "y = [bytes(2000 + i % 9) for i in range(5000)]\nprint(os.getpid(), flush=True)\nsys.stdin.readline()\n")
        session = self.folder()
        process = subprocess.Popen(["python3", "-c", code], env=tracing.traced_environment(session, PYTHONMALLOC="malloc"),
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        pid = process.stdout.readline().decode().strip()
        done = tracing.leakview("scan", pid)
        process.communicate(b"\n")
        self.assertEqual(done.status, 0, done.stderr)
        self.assertIn("Not all of its blocks are known", done.stdout)
        path = [p for p in tracing.session_files(session, ".scan") if f".{pid}." in p][0]
        with open(path, encoding="utf-8") as file:
            found = json.loads(file.read())
        self.assertTrue(found["blocks_unknown"])
        # The child's list is held by a frame that the parent had allocated.
        self.assertLess(found["definitely_lost"][0] + found["indirectly_lost"][0], 100, found)

    def test_a_large_process(self):
        target = self.target("500", "2")
        self.settle(target)
        found, _ = scan_run.scan(target)
        self.assertGreater(found["reachable"][1], 500 << 20)
        self.assertGreaterEqual(found["scanned_bytes"], 500 << 20)
        self.assert_lives(target)


if __name__ == "__main__":
    tracing.main()
