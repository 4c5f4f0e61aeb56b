"""ollama-leakview as a program: standard streams that go away, and `record`, which becomes its command."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import unittest

LEAKVIEW = os.environ["OLLAMATRACE_LEAKVIEW"]
TRACE = os.environ["OLLAMATRACE_EXAMPLE_TRACE"]  # any trace
# `record` never looks into the library: any shared object that can be preloaded will do.
LIBRARY = os.environ["OLLAMATRACE_SOME_LIBRARY"]


def run(*arguments, **settings):
    environment = {name: value for name, value in os.environ.items()
                   if name != "LD_PRELOAD" and not name.startswith("OLLAMATRACE_")}
    environment["OLLAMATRACE_LIB"] = LIBRARY
    environment["OLLAMATRACE_SYMBOL_CACHE"] = "off"
    environment["ASAN_OPTIONS"] = "verify_asan_link_order=0"  # a sanitized build, with something preloaded
    environment.update(settings)
    environment = {name: value for name, value in environment.items() if value is not None}
    return subprocess.run([LEAKVIEW, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=120, check=False, cwd=tempfile.gettempdir())


class StreamsTest(unittest.TestCase):

    def test_reader_that_has_seen_enough(self):
        for arguments in (["report", "--top=0"], ["report", "--format=json"], ["leaks"], ["report", "--help"]):
            for _ in range(3):
                reader, writer = os.pipe()
                os.close(reader)
                done = subprocess.run([LEAKVIEW, *arguments, TRACE], stdout=writer, stderr=subprocess.PIPE,
                                      timeout=120, check=False)
                os.close(writer)
                self.assertEqual((done.returncode, done.stderr), (0, b""), arguments)

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([LEAKVIEW, TRACE], stdout=full, stderr=subprocess.PIPE, timeout=120, check=False)
        self.assertEqual(done.returncode, 3)
        self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)

    def test_closed_streams(self):
        command = f'exec "{LEAKVIEW}" "{TRACE}" <&- >&- 2>&-'
        self.assertIn(subprocess.run(["sh", "-c", command], timeout=120, check=False).returncode, (0, 3))


def on_a_terminal(columns, *arguments, **settings):
    """What the program writes to a terminal so many columns wide."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    environment.update(settings)
    process = subprocess.Popen([LEAKVIEW, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=slave)
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # EIO: the other side is closed
            break
        if not piece:
            break
        seen += piece
    os.close(master)
    assert process.wait(120) == 0
    return seen.decode()


class TerminalTest(unittest.TestCase):
    ARGUMENTS = ("report", "--top=5", TRACE)

    def test_colours_on_a_terminal_alone(self):
        self.assertIn("\x1b[1m", on_a_terminal(120, *self.ARGUMENTS))
        for settings in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            self.assertNotIn("\x1b", on_a_terminal(120, *self.ARGUMENTS, **settings))
        self.assertIn("\x1b", on_a_terminal(120, *self.ARGUMENTS, NO_COLOR=""))  # set, and empty: says nothing
        self.assertNotIn("\x1b", on_a_terminal(120, *self.ARGUMENTS, "--color=never"))
        self.assertNotIn(b"\x1b", run(*self.ARGUMENTS).stdout)
        self.assertIn(b"\x1b", run(*self.ARGUMENTS, "--color=always", NO_COLOR="1").stdout)
        self.assertEqual(run(*self.ARGUMENTS, "--color=maybe").returncode, 2)

    def test_colours_change_nothing_else(self):
        plain = run(*self.ARGUMENTS).stdout.decode()
        painted = run(*self.ARGUMENTS, "--color=always").stdout.decode()
        for sequence in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[1;31m", "\x1b[32m", "\x1b[33m"):
            painted = painted.replace(sequence, "")
        self.assertEqual([line.rstrip() for line in painted.splitlines()], plain.splitlines())

    def test_lines_fit_the_terminal(self):
        for columns in (80, 100, 200):
            lines = on_a_terminal(columns, *self.ARGUMENTS, NO_COLOR="1").splitlines()
            frames = [line for line in lines if line.startswith("      ")]
            self.assertTrue(frames)
            self.assertEqual([line for line in frames if len(line) > columns], [])

    def test_verbose_shows_every_frame(self):
        brief = run(*self.ARGUMENTS).stdout.decode()
        verbose = run(*self.ARGUMENTS, "--verbose").stdout.decode()
        self.assertRegex(brief, r"\.\.\. \d+ frames")
        self.assertNotRegex(verbose, r"\.\.\. \d+ frames")
        self.assertGreater(verbose.count("\n"), brief.count("\n"))


class RecordTest(unittest.TestCase):

    def test_exit_code_and_streams_are_the_commands(self):
        done = run("record", "--", "sh", "-c", "echo out; echo err >&2; exit 37")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (37, b"out\n", b"err\n"))

    def test_signal_is_the_commands(self):
        self.assertEqual(run("record", "sh", "-c", "kill -TERM $$").returncode, -signal.SIGTERM)

    def test_ignores_no_signals_for_the_command(self):
        done = run("record", "--", "sh", "-c", "kill -PIPE $$; echo still here")
        self.assertEqual(done.returncode, -signal.SIGPIPE, done)

    def environment(self, *options, **settings):
        done = run("record", *options, "--", "env", **settings)
        self.assertEqual(done.returncode, 0, done.stderr)
        return dict(line.split("=", 1) for line in done.stdout.decode().splitlines() if "=" in line)

    def test_environment(self):
        seen = self.environment("-o", "some/folder", "--mode=full")
        self.assertEqual(seen["LD_PRELOAD"], os.path.realpath(LIBRARY))
        self.assertEqual(seen["OLLAMATRACE_DIR"], os.path.join(os.path.realpath(tempfile.gettempdir()), "some/folder"))
        self.assertEqual(seen["OLLAMATRACE_MODE"], "full")
        seen = self.environment()
        self.assertRegex(seen["OLLAMATRACE_DIR"], r"^/.*/ollamatrace\.env\.[0-9]+$")
        self.assertNotIn("OLLAMATRACE_MODE", seen)

    def test_keeps_what_was_preloaded(self):
        seen = self.environment(LD_PRELOAD=LIBRARY)
        self.assertEqual(seen["LD_PRELOAD"], os.path.realpath(LIBRARY) + ":" + LIBRARY)

    def one_line(self, status, *arguments, **settings):
        done = run("record", *arguments, **settings)
        self.assertEqual(done.returncode, status, done)
        self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
        self.assertEqual(done.stdout, b"")
        return done.stderr.decode()

    def test_what_cannot_be(self):
        self.one_line(2)
        self.one_line(2, "--mode=banana", "ls")
        self.one_line(2, "--nonsense", "ls")
        self.assertIn("no such program", self.one_line(127, "--", "/no/such/program"))
        self.assertIn("no such program", self.one_line(127, "no-such-program-anywhere"))
        self.assertIn("not an executable", self.one_line(126, "/etc/passwd"))
        self.assertIn("OLLAMATRACE_LIB", self.one_line(126, "ls", OLLAMATRACE_LIB="/no/such/library.so"))

    def test_library_whose_path_cannot_be_preloaded(self):
        with tempfile.TemporaryDirectory(prefix="with space ") as folder:
            library = os.path.join(folder, "library.so")
            with open(LIBRARY, "rb") as source, open(library, "wb") as copy:
                copy.write(source.read())
            self.assertIn("space", self.one_line(126, "ls", OLLAMATRACE_LIB=library))

    def test_statically_linked(self):
        with tempfile.TemporaryDirectory() as folder:
            source, program = os.path.join(folder, "a.c"), os.path.join(folder, "static")
            with open(source, "w", encoding="utf-8") as file:
                file.write("int main(void) { return 0; }\n")
            try:
                built = subprocess.run(["cc", "-static", "-o", program, source], capture_output=True, check=False)
            except OSError:
                self.skipTest("no C compiler")
            if built.returncode != 0:
                self.skipTest("cannot link statically here")
            self.assertIn("linked statically", self.one_line(126, program))

    def test_says_where_on_a_terminal(self):
        master, slave = pty.openpty()
        environment = dict(os.environ, OLLAMATRACE_LIB=LIBRARY)
        done = subprocess.run([LEAKVIEW, "record", "-o", "/tmp/x", "true"], env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=slave, timeout=120, check=False)
        os.close(slave)
        self.assertEqual((done.returncode, done.stdout), (0, b""))
        self.assertIn(b"recording to /tmp/x", os.read(master, 4096))
        os.close(master)


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
