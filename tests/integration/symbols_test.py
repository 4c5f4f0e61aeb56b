"""Names that outlive the files they came from: stored beside a trace by `symbolize`, and in the cache."""

import json
import os
import shutil
import subprocess
import sys
import unittest

import tracing

DRIVE = os.path.join(tracing.SOURCE, "examples", "leaky_server", "drive.py")


class SymbolsTest(tracing.TestCase):

    def record(self):
        """A session of a program that only this test has."""
        folder = self.folder()
        program = os.path.join(folder, "server", "leaky_server")
        shutil.copytree(os.path.dirname(tracing.LEAKY_SERVER), os.path.dirname(program),
                        ignore=lambda _, names: [name for name in names if name != "leaky_server"])
        session = os.path.join(folder, "session")
        done = tracing.run([sys.executable, DRIVE, "--requests", "20", "--leak", "request,once",
                            "--env", f"LD_PRELOAD={tracing.LIB}", "--env", f"OLLAMATRACE_DIR={session}", "--",
                            program, "--port=0"])
        self.assertEqual(done.status, 0, done)
        return program, session

    def names(self, *arguments, cache="off"):
        """Function, file and line of the program's own frames; and what the report says of its modules."""
        done = tracing.leakview("report", "--format=json", "--no-debuginfod", *arguments,
                                environment=tracing.plain_environment(OLLAMATRACE_SYMBOL_CACHE=cache))
        self.assertEqual((done.status, done.stderr), (0, ""))
        report = json.loads(done.stdout)
        names = [(f["function"], f["file"], f["line"]) for g in report["groups"] for f in g["frames"]
                 if (f["module"] or "").endswith("/leaky_server")]
        states = {os.path.basename(m["path"]): m["state"] for m in report["coverage"]["modules_without_lines"]}
        return names, states

    def check_named(self, names):
        self.assertIn("leaky::", str(names))
        self.assertTrue(all(function and file and line for function, file, line in names
                            if "leaky::" in (function or "")), names)

    def test_beside_the_trace(self):
        program, session = self.record()
        before, states = self.names(session)
        self.check_named(before)
        self.assertNotIn("leaky_server", states)
        done = tracing.leakview("symbolize", session)
        self.assertEqual((done.status, done.stderr), (0, ""))
        self.assertIn(f"are in {session}/symbols\n", done.stdout)
        # What an operator copies to another machine.
        elsewhere = os.path.join(self.folder(), "copied")
        shutil.move(session, elsewhere)
        os.remove(program)
        after, states = self.names(elsewhere)
        self.assertEqual(after, before)
        self.assertNotIn("leaky_server", states)
        single = tracing.session_files(elsewhere, ".zst")[0]
        self.check_named(self.names(single)[0])
        # Other verbs, and a folder of sessions.
        self.check_named(self.names(os.path.dirname(elsewhere))[0])
        for verb in ("leaks", "diff"):
            done = tracing.leakview(verb, elsewhere, *([elsewhere] if verb == "diff" else []))
            self.assertEqual(done.status, 0, done)
        # Not a second time what is gone, and nothing lost of what is there.
        done = tracing.leakview("symbolize", elsewhere)
        self.assertEqual(done.status, 0, done)
        self.assertEqual(self.names(elsewhere)[0], before)
        shutil.rmtree(os.path.join(elsewhere, "symbols"))
        names, states = self.names(elsewhere)
        self.assertNotIn("leaky::", str(names))
        self.assertEqual(states["leaky_server"], "no-file")

    def test_of_a_container(self):
        """The program is below another root, as that of a container's process."""
        program, session = self.record()
        before = self.names(session)[0]
        root = os.path.join(self.folder(), "root")
        os.makedirs(root + os.path.dirname(program))
        shutil.move(program, root + program)
        done = tracing.leakview("symbolize", session)
        self.assertEqual(done.status, 0, done)
        self.assertIn(f"  {program}: no names (no such file: {program})\n", done.stdout)
        done = tracing.leakview("symbolize", f"--sysroot={root}", session)
        self.assertEqual(done.status, 0, done)
        self.assertNotIn(program, done.stdout)
        shutil.rmtree(root)
        self.assertEqual(self.names(session)[0], before)

    def test_the_cache(self):
        program, session = self.record()
        before = self.names(session)[0]
        cache = os.path.join(self.folder(), "new", "cache")
        command = [tracing.LEAKVIEW, "report", "--format=json", "--no-debuginfod", f"--symbol-cache={cache}", session]
        several = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
        answers = {process.communicate() for process in several}
        self.assertEqual(len(answers), 1, [a[1] for a in answers])
        self.assertEqual(answers.pop()[1], b"")
        self.assertTrue(all(name.endswith(".symbols") for name in os.listdir(cache)), os.listdir(cache))
        os.remove(program)
        self.assertEqual(self.names(session, cache=cache)[0], before)
        self.assertNotIn("leaky::", str(self.names(session)[0]))
        # By XDG_CACHE_HOME, and not at all where it is switched off.
        home = self.folder()
        environment = tracing.plain_environment(XDG_CACHE_HOME=home, HOME="/nonexistent")
        del environment["OLLAMATRACE_SYMBOL_CACHE"]
        self.assertEqual(tracing.leakview("report", "--symbol-cache=off", session, environment=environment).status, 0)
        self.assertEqual(os.listdir(home), [])
        self.assertEqual(tracing.leakview("report", session, environment=environment).status, 0)
        self.assertNotEqual(os.listdir(os.path.join(home, "ollamatrace", "symbols")), [])
        # Whatever is in it.
        for name in os.listdir(cache):
            with open(os.path.join(cache, name), "r+b") as file:
                file.seek(20)
                file.write(b"damaged" * 3)
        self.assertNotIn("leaky::", str(self.names(session, cache=cache)[0]))

    def test_bad_arguments(self):
        for arguments, words in ((["symbolize"], "no trace given"), (["report", "--symbol-cache=/dev/null/x", "."], "--symbol-cache"),
                                 (["report", "--symbol-cache=", "."], "--symbol-cache")):
            done = tracing.leakview(*arguments)
            self.assertEqual(done.status, 2, arguments)
            self.assertIn(words, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)
        done = tracing.leakview("symbolize", "/nonexistent")
        self.assertEqual((done.status, done.stdout), (3, ""))

    def test_a_session_that_cannot_be_written_to(self):
        _, session = self.record()
        with open(os.path.join(session, "symbols"), "w", encoding="ascii"):
            pass
        done = tracing.leakview("symbolize", session)
        self.assertEqual((done.status, done.stdout), (3, ""))
        self.assertIn(f"cannot write {session}/symbols", done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)
        self.check_named(self.names(session)[0])


if __name__ == "__main__":
    unittest.TestCase.longMessage = True
    tracing.main()
