"""leaky_server's planted leaks, against the report: the right process, domain, function, file and line."""

import json
import os
import re
import signal
import sys

import tracing

DRIVE = os.path.join(tracing.SOURCE, "examples", "leaky_server", "drive.py")
REQUESTS = 120


def expected_leaks():
    done = tracing.run([tracing.LEAKY_SERVER, "--expect"])
    assert done.status == 0, done.stderr
    return {leak["leak"]: leak for leak in json.loads(done.stdout)}


def blocks_after(leak, requests):
    """How many blocks a leak must have left after so many requests (one unload at the end included)."""
    if leak["leak"] == "cache":
        return min(requests, 64)
    if leak["every"] == 0:
        return 1
    return -(-requests // leak["every"])


def own_frame(group):
    """The innermost frame that lies in the example's own files."""
    for frame in group["frames"]:
        if "examples/leaky_server/" in (frame.get("file") or ""):
            return frame
    return None


class LeakyServerTest(tracing.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.expected = expected_leaks()

    def drive(self, leaks, *more, **settings):
        session = os.path.join(self.folder(), "session")
        command = [sys.executable, DRIVE, "--requests", str(REQUESTS), "--leak", leaks, *more,
                   "--env", f"LD_PRELOAD={tracing.LIB}", "--env", f"OLLAMATRACE_DIR={session}"]
        for name, value in settings.items():
            command += ["--env", f"{name}={value}"]
        done = tracing.run(command + ["--", tracing.LEAKY_SERVER, "--port=0"])
        self.assertEqual(done.status, 0, done.stdout + done.stderr)
        return session

    def process_of(self, report, role):
        pids = [p["pid"] for p in report["processes"]
                if tracing.exe_name(p) == "leaky_server" and ("--runner" in p["argv"]) == (role == "runner")
                and p["end"] != "exec"]  # the server's fork, before it became the runner
        self.assertEqual(len(pids), 1, report["processes"])
        return pids[0]

    def groups_of(self, report, leak):
        pid = self.process_of(report, leak["process"])
        groups = [g for g in report["groups"] if g["pid"] == pid and g["domain"] == leak["domain"]]
        self.assertTrue(groups, f"no group of domain {leak['domain']}: "
                        f"{sorted({(g['pid'], g['domain']) for g in report['groups']})}")
        return sorted(groups, key=lambda g: g["rank"])

    def assert_is_leak(self, group, leak):
        frame = own_frame(group)
        where = tracing.frames_text(group)
        self.assertIsNotNone(frame, where)
        self.assertRegex(frame["function"], rf"\b{re.escape(leak['function'])}\b", where)
        self.assertTrue(frame["file"].endswith(leak["file"]), where)
        self.assertEqual(frame["line"], leak["line"], where)
        self.assertEqual(os.path.basename(frame["module"]), leak["module"], where)
        blocks = blocks_after(leak, REQUESTS)
        self.assertEqual(group["live_blocks"], blocks, where)
        self.assertEqual(group["live_bytes"], blocks * leak["bytes"], where)

    def check_single(self, name, **settings):
        report = tracing.report(self.drive(name, **settings))
        leak = self.expected[name]
        first = self.groups_of(report, leak)[0]
        self.assert_is_leak(first, leak)
        return first

    def test_each_request(self):
        first = self.check_single("request")
        frames = first["frames"]
        inner = frames.index(own_frame(first))
        self.assertTrue(frames[inner]["inlined"], tracing.frames_text(first))
        self.assertRegex(frames[inner + 1]["function"], r"\bLeakPrompt\b")

    def test_each_request_full_mode(self):
        self.check_single("request", OLLAMATRACE_MODE="full")

    def test_bounded_cache(self):
        self.check_single("cache")

    def test_one_time_table(self):
        self.check_single("once")

    def test_plugin_named_after_dlclose(self):
        self.check_single("plugin")

    def test_mapping(self):
        self.check_single("mapping")

    def test_killed_child(self):
        report = tracing.report(self.drive("runner"))
        leak = self.expected["runner"]
        self.assert_is_leak(self.groups_of(report, leak)[0], leak)
        server, runner = (tracing.last_image(report, self.process_of(report, role)) for role in ("server", "runner"))
        self.assertEqual((server["end"], runner["end"]), ("exited", "killed"))
        self.assertEqual(runner["ppid"], server["pid"])

    def test_all_at_once(self):
        session = self.drive("all")
        report = tracing.report(session)
        for leak in self.expected.values():
            with self.subTest(leak["leak"]):
                found = [g for g in self.groups_of(report, leak)
                         if (own_frame(g) or {}).get("line") == leak["line"]
                         and own_frame(g)["file"].endswith(leak["file"])]
                self.assertEqual(len(found), 1, leak)
                self.assert_is_leak(found[0], leak)
        self.assert_nothing_lost(report)
        text = tracing.leakview("report", session)
        self.assertEqual(text.status, 0, text.stderr)
        self.assertIn("MakeTableOnce", text.stdout)

    def test_verdicts_and_rates(self):
        """With marks: each leak is called one, with its rate; what looks like one is not."""
        session = os.path.join(self.folder(), "session")
        os.mkdir(session)
        done = tracing.run([sys.executable, DRIVE, "--requests", "240", "--leak", "all",
                            "--marks", os.path.join(session, "marks.jsonl"),
                            "--env", f"LD_PRELOAD={tracing.LIB}", "--env", f"OLLAMATRACE_DIR={session}",
                            "--", tracing.LEAKY_SERVER, "--port=0"])
        self.assertEqual(done.status, 0, done.stdout + done.stderr)
        report = tracing.report(session)
        verdicts = {"cache": {"cache"}, "once": {"one-time"}}
        for leak in self.expected.values():
            with self.subTest(leak["leak"]):
                group = next(g for g in self.groups_of(report, leak)
                             if (own_frame(g) or {}).get("line") == leak["line"]
                             and own_frame(g)["file"].endswith(leak["file"]))
                expected = verdicts.get(leak["leak"], {"leak", "growth-per-request"})
                self.assertIn(group["verdict"], expected, group["evidence"])
                if leak["leak"] not in verdicts:
                    rate = leak["bytes"] / leak["every"]
                    self.assertAlmostEqual(group["bytes_per_request"], rate, delta=0.05 * rate)
        leaks = [g for g in report["groups"] if g["verdict"] in ("leak", "growth-per-request")]
        self.assertEqual(len(leaks), len(self.expected) - len(verdicts), [tracing.frames_text(g) for g in leaks])
        self.assertEqual(sorted(g["rank"] for g in leaks), list(range(1, len(leaks) + 1)))

    def test_diff_shows_the_new_leak(self):
        before, after = self.drive("cache"), self.drive("cache,request")
        done = tracing.leakview("diff", "--format=json", before, after)
        self.assertEqual(done.status, 0, done.stderr)
        diff = json.loads(done.stdout)
        self.assertEqual(diff["schema"], "ollama-leakview/diff/1")
        first = diff["groups"][0]
        self.assertEqual((first["change"], first["after"]["live_blocks"]), ("new", REQUESTS))
        self.assert_is_leak(dict(first, **first["after"]), self.expected["request"])
        cache = [g for g in diff["groups"] if "CachePrompt" in tracing.frames_text(g)]
        self.assertEqual([(g["change"], g["delta_bytes"]) for g in cache], [("same", 0)])
        text = tracing.leakview("diff", before, after)
        self.assertEqual(text.status, 0, text.stderr)
        self.assertRegex(text.stdout, r"\(new\)")

    def test_no_leak_no_group(self):
        report = tracing.report(self.drive("none"))
        for group in report["groups"]:
            frame = own_frame(group)
            for leak in self.expected.values():
                if frame is not None:
                    self.assertNotRegex(frame["function"] or "", rf"\b{leak['function']}\b")

    def test_output_unchanged(self):
        """The server prints its one line and nothing else, traced or not."""
        session = os.path.join(self.folder(), "session")
        for environment in (tracing.plain_environment(), tracing.traced_environment(session)):
            with tracing.subprocess.Popen(
                    [tracing.LEAKY_SERVER, "--port=0"], env=environment, stdin=tracing.subprocess.DEVNULL,
                    stdout=tracing.subprocess.PIPE, stderr=tracing.subprocess.PIPE) as server:
                line = server.stdout.readline()
                server.send_signal(signal.SIGINT)
                rest, errors = server.communicate(timeout=tracing.COMMAND_SECONDS)
            self.assertRegex(line, rb"^listening on 127\.0\.0\.1:[0-9]+\n$")
            self.assertEqual((rest, errors, server.returncode), (b"", b"", 0))


if __name__ == "__main__":
    tracing.main()
