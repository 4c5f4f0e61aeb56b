"""What bad input gets: one line and exit code 3 from the analyzer, a recorded reason from the library; nothing lost."""

import glob
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import zlib

import tracing

# A program with survivors of known sizes that says what it did; it reads a line before it goes on, and one more
# before it ends.
TARGET = r"""
import ctypes, sys
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
keep = [libc.malloc(70001) for _ in range(40)]
print("allocated", flush=True)
sys.stdin.readline()
"""

# Allocates and frees on and on: fills any journal and any disk. Its output depends on every block's content.
CHURN = r"""
import ctypes, sys
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
keep = []
for i in range(60000):
    block = libc.malloc(64 + i % 4000)
    ctypes.memset(block, i & 255, 8)
    keep.append(block)
print(len(keep), sum(ctypes.string_at(b, 1)[0] for b in keep))
"""


def index_frames(data):
    """The offsets of the chunks' index frames, as formats/FORMAT.md describes them."""
    return [m.start() for m in re.finditer(re.escape(struct.pack("<I", 0x184D2A57)) + b"....otck", data, re.S)]


class AnalyzerTest(tracing.TestCase):
    """Files that are not what they should be."""

    @classmethod
    def setUpClass(cls):
        # Full mode and a killed child: a trace of several chunks.
        cls.session = os.path.join(tracing.temporary_folder("bad"), "session")
        done = tracing.run([sys.executable, "-c", CHURN], tracing.traced_environment(
            cls.session, OLLAMATRACE_MODE="full"))
        assert done.status == 0, done.stderr
        found = [p for p in tracing.session_files(cls.session, ".zst")
                 if os.path.getsize(p) == max(map(os.path.getsize, tracing.session_files(cls.session, ".zst")))]
        cls.trace = found[0]
        with open(cls.trace, "rb") as file:
            cls.data = file.read()
        cls.live_bytes = tracing.report("--top=1", cls.trace)["processes"][0]["host"]["live_bytes"]

    def file(self, content, name="python3.1.1.zst"):
        path = os.path.join(self.folder(), name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def assert_unreadable(self, path):
        """Exit code 3 and one line that names the path, whatever the format."""
        for verb in (["report"], ["report", "--format=json"], ["leaks"], []):
            done = tracing.leakview(*verb, path)
            self.assertEqual(done.status, 3, (verb, done))
            self.assertEqual(done.stderr.count("\n"), 1, (verb, done.stderr))
            self.assertIn(os.path.basename(path), done.stderr)
        return tracing.leakview(path).stderr

    def assert_survives(self, path, statuses=(0, 3)):
        """Neither a crash nor a hang; when it is unreadable, one line says so."""
        done = tracing.leakview("report", "--format=json", "--top=1", path)
        self.assertIn(done.status, statuses, done)
        if done.status == 3:
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done

    def test_no_such_file(self):
        self.assert_unreadable(os.path.join(self.folder(), "missing.zst"))

    def test_empty_file(self):
        self.assert_unreadable(self.file(b""))

    def test_folder_without_traces(self):
        folder = self.folder()
        self.assert_unreadable(folder)
        with open(os.path.join(folder, "readme.txt"), "w", encoding="utf-8") as file:
            file.write("nothing here")
        self.assert_unreadable(folder)

    def test_no_trace(self):
        self.assert_unreadable(self.file(b"just some text, not compressed\n" * 100))
        self.assert_unreadable(self.file(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20))
        self.assert_unreadable(self.file(bytes(100000)))

    def test_zstd_but_no_trace(self):
        zstd = self.program("zstd")
        packed = tracing.run([zstd, "-q", "-c", tracing.__file__])
        self.assert_unreadable(self.file(packed.stdout))

    def test_newer_version(self):
        data = bytearray(self.data)
        start = index_frames(self.data)[0]
        payload = start + 8
        struct.pack_into("<H", data, payload + 4, 77)
        struct.pack_into("<I", data, payload + 44, zlib.crc32(data[payload:payload + 44]))
        message = self.assert_unreadable(self.file(bytes(data)))
        self.assertIn("77", message)

    def test_no_permission(self):
        if os.geteuid() == 0:
            self.skipTest("root may read everything")
        path = self.file(self.data)
        os.chmod(path, 0)
        self.assert_unreadable(path)

    def test_truncated(self):
        """Whatever is cut off at the end, the chunks before it are read."""
        starts = index_frames(self.data)
        self.assertGreater(len(starts), 2, "the trace has too few chunks for this test")
        whole = self.file(self.data)
        everything = tracing.report("--top=1", whole)["processes"][0]["host"]["allocations"]
        before = 0
        for cut in (starts[1] + 20, starts[len(starts) // 2] + 60, starts[-1] + 5, len(self.data) - 1):
            path = self.file(self.data[:cut])
            done = tracing.leakview("report", "--format=json", "--top=1", path)
            self.assertEqual(done.status, 0, done.stderr)
            host = tracing.report("--top=1", path)["processes"][0]["host"]
            self.assertGreaterEqual(host["allocations"], before)
            self.assertLessEqual(host["allocations"], everything)
            before = host["allocations"]
            told = tracing.leakview("report", path)
            self.assertEqual(told.status, 0, told.stderr)
            self.assertRegex((told.stdout + told.stderr).lower(), "truncated|cut|incomplete|ends inside")
        self.assertGreater(before, 0)

    def test_truncated_anywhere(self):
        draw = random.Random(5)
        for cut in sorted({1, 3, 4, 8, 55, 56, 57, *(draw.randrange(len(self.data)) for _ in range(12))}):
            self.assert_survives(self.file(self.data[:cut]))

    def test_bit_flipped(self):
        draw = random.Random(7)
        starts = index_frames(self.data)
        for _ in range(25):
            data = bytearray(self.data)
            for _ in range(draw.choice((1, 1, 8, 100))):
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            self.assert_survives(self.file(bytes(data)))
        # One damaged chunk in the middle costs that chunk alone, and is counted.
        data = bytearray(self.data)
        data[starts[len(starts) // 2] + 56 + 30] ^= 0xFF
        path = self.file(bytes(data))
        self.assert_survives(path, statuses=(0,))
        told = tracing.leakview("report", path)
        self.assertRegex((told.stdout + told.stderr).lower(), "damaged|checksum|skipped")

    def test_garbage_of_every_length(self):
        draw = random.Random(11)
        for size in (1, 2, 7, 8, 9, 47, 48, 56, 64, 500, 70000):
            noise = bytes(draw.randrange(256) for _ in range(size))
            for name in ("a.1.1.zst", "a.1.1.journal"):
                self.assert_survives(self.file(noise, name), statuses=(3,))

    def test_usage(self):
        for arguments in (["nonsense-verb-that-is-no-path", "--bad-flag"], ["report", "--no-such-flag", self.trace],
                          ["report", "--format=klingon", self.trace], ["report"]):
            done = tracing.leakview(*arguments)
            self.assertIn(done.status, (2, 3) if "nonsense" in arguments[0] else (2,), (arguments, done))
            self.assertTrue(done.stderr)
        self.assertEqual(tracing.leakview("--help").status, 0)
        for verb in ("report", "leaks", "record"):
            self.assertEqual(tracing.leakview(verb, "--help").status, 0)


class JournalTest(tracing.TestCase):
    """Traces of processes that live, or were killed."""

    def start(self, session):
        target = subprocess.Popen([sys.executable, "-c", TARGET], env=tracing.traced_environment(session),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(self.finish, target)
        self.assertEqual(target.stdout.readline(), b"allocated\n")
        return target

    @staticmethod
    def finish(target):
        tracing.end_process(target, signal.SIGKILL)
        target.stdin.close()
        target.stdout.close()

    def assert_blocks_there(self, path, pid, end):
        report = tracing.report(path)
        process = [p for p in report["processes"] if p["pid"] == pid]
        self.assertEqual([p["end"] for p in process], [end], report["processes"])
        found = [g for g in report["groups"] if g["pid"] == pid and g["live_bytes"] == 40 * 70001]
        self.assertEqual([g["live_blocks"] for g in found], [40])

    def test_while_it_is_written(self):
        session = os.path.join(self.folder(), "session")
        target = self.start(session)
        self.assert_blocks_there(session, target.pid, "running")
        target.stdin.write(b"\n")
        target.stdin.flush()
        self.assertEqual(target.wait(60), 0)
        report = tracing.report(session)
        self.assertIn("exited", [p["end"] for p in report["processes"] if p["pid"] == target.pid])

    def test_killed(self):
        session = os.path.join(self.folder(), "session")
        target = self.start(session)
        target.kill()
        target.wait()
        self.assert_blocks_there(session, target.pid, "killed")

    def test_journal_without_its_trace(self):
        session = os.path.join(self.folder(), "session")
        target = self.start(session)
        target.kill()
        target.wait()
        journals = [p for p in tracing.session_files(session, ".journal") if f".{target.pid}." in p]
        self.assertEqual(len(journals), 1, os.listdir(session))
        trace = journals[0][:-len(".journal")] + ".zst"
        if os.path.exists(trace):
            os.unlink(trace)
        done = tracing.leakview("report", "--format=json", session)
        self.assertEqual(done.status, 0, done.stderr)
        self.assertIn(target.pid, [p["pid"] for p in tracing.report(session)["processes"]])
        # Damage in a journal is no crash either.
        with open(journals[0], "rb") as file:
            data = file.read()
        draw = random.Random(3)
        for _ in range(10):
            broken = bytearray(data)
            for _ in range(40):
                broken[draw.randrange(min(len(broken), 1 << 16))] ^= 1 << draw.randrange(8)
            with open(journals[0], "wb") as file:
                file.write(broken[:draw.randrange(1, len(broken))] if draw.random() < 0.5 else broken)
            self.assertIn(tracing.leakview("report", "--top=1", session).status, (0, 3))


class LibraryTest(tracing.TestCase):
    """A session folder, a disk and settings that are not as they should be: the target never notices."""

    COMMAND = [sys.executable, "-c", CHURN]

    @classmethod
    def setUpClass(cls):
        cls.plain = tracing.run(cls.COMMAND)
        assert cls.plain.status == 0, cls.plain.stderr

    def mount_tmpfs(self, size):
        folder = self.folder()
        done = tracing.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "none", folder]) \
            if shutil.which("mount") else None
        if done is None or done.status != 0:
            return None
        self.addCleanup(tracing.run, ["umount", "-l", folder])
        return folder

    def test_full_disk(self):
        for size in ("64k", "1m", "3m"):
            disk = self.mount_tmpfs(size)
            if disk is None:
                self.skipTest("mounting a small tmpfs is not permitted here")
            session, elsewhere = os.path.join(disk, "session"), self.folder()
            traced = tracing.run(self.COMMAND, tracing.traced_environment(
                session, OLLAMATRACE_MODE="full", TMPDIR=elsewhere))
            self.assertEqual(traced, self.plain, size)
            self.assert_reason_or_trace(session, elsewhere)

    def test_file_size_limit(self):
        """RLIMIT_FSIZE with SIGXFSZ ignored: every write beyond the limit fails, as on a full disk."""
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        folder = self.folder()
        session = os.path.join(folder, "session")
        done = subprocess.run(self.COMMAND, env=tracing.traced_environment(
            session, OLLAMATRACE_MODE="full", TMPDIR=folder), stdin=subprocess.DEVNULL, capture_output=True,
            preexec_fn=limit, timeout=tracing.COMMAND_SECONDS, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), self.plain)
        self.assert_reason_or_trace(session, folder)

    def assert_reason_or_trace(self, *places):
        """Something was left that says why there is no more, or the whole trace; and it is readable, or refused with
        one line."""
        names = []
        for place in places:
            names += [p for p in glob.glob(os.path.join(place, "**", "*"), recursive=True) if os.path.isfile(p)]
        for place in places:
            if os.path.isdir(place):
                done = tracing.leakview("report", "--top=1", place)
                self.assertIn(done.status, (0, 3), done)
        self.assertTrue(names, "neither a trace nor a reason anywhere")

    def test_unwritable_folder(self):
        """A session folder below a regular file can never be made, not even by root: $TMPDIR takes over."""
        folder, elsewhere = self.folder(), self.folder()
        blocker = os.path.join(folder, "regular-file")
        with open(blocker, "w", encoding="utf-8") as file:
            file.write("in the way")
        traced = tracing.run(self.COMMAND, tracing.traced_environment(
            os.path.join(blocker, "session"), TMPDIR=elsewhere))
        self.assertEqual(traced, self.plain)
        traces = glob.glob(os.path.join(elsewhere, "**", "*.zst"), recursive=True)
        self.assertTrue(traces, "no trace below $TMPDIR")
        processes = tracing.report("--top=1", os.path.dirname(traces[0]))["processes"]
        self.assertTrue(processes)

    def test_nowhere_to_write(self):
        traced = tracing.run(self.COMMAND, tracing.traced_environment(
            "/dev/null/session", TMPDIR="/dev/null/tmp"), cwd="/proc")
        self.assertEqual(traced, self.plain)

    def test_bad_settings(self):
        cases = {"OLLAMATRACE_MODE": ["banana", "sample:-1", ""],
                 "OLLAMATRACE_DEPTH": ["-5", "abc", "99999999999999999999"],
                 "OLLAMATRACE_SAMPLE_MS": ["soon", "-1"], "OLLAMATRACE_UNWINDER": ["magic"]}
        for name, values in cases.items():
            for value in values:
                with self.subTest(f"{name}={value}"):
                    session = os.path.join(self.folder(), "session")
                    done = tracing.run(["ls", "/"], tracing.traced_environment(session, **{name: value}))
                    self.assertEqual(done, tracing.run(["ls", "/"]))
                    self.assertEqual(tracing.exe_name(tracing.report(session)["processes"][0]), "ls")
                    if value:
                        self.assertIn(name, tracing.session_notes(session), "no reason recorded")

    def test_only(self):
        """OLLAMATRACE_ONLY leaves every other program alone."""
        session = os.path.join(self.folder(), "session")
        tracing.run(["bash", "-c", "ls / > /dev/null; cat /dev/null"],
                    tracing.traced_environment(session, OLLAMATRACE_ONLY="cat,nothing"))
        names = {tracing.exe_name(p) for p in tracing.report(session)["processes"]}
        self.assertEqual(names, {"cat"})

    def test_library_missing(self):
        """`record` says it in one line when it cannot do what it is asked to."""
        done = tracing.leakview("record", "--", "/no/such/program")
        self.assertNotEqual(done.status, 0)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)


if __name__ == "__main__":
    tracing.main()
