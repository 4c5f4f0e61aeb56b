"""What --help says, as installed: manual pages that man formats, completions in the shells themselves."""

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import tempfile
import termios
import time
import unittest

BUILD = os.environ["OLLAMATRACE_BUILD"]
CMAKE = os.environ["OLLAMATRACE_CMAKE"]


def needs(program):
    return unittest.skipUnless(shutil.which(program), f"no {program} here")


class InstalledTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.prefix = os.path.join(cls.folder.name, "prefix")
        done = subprocess.run([CMAKE, "--install", BUILD, "--prefix", cls.prefix], capture_output=True, text=True,
                              timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        cls.program = os.path.join(cls.prefix, "bin", "ollama-leakview")
        cls.files = os.path.join(cls.folder.name, "files")
        os.mkdir(cls.files)
        for name in ("some trace.zst", "some.yaml"):
            open(os.path.join(cls.files, name), "wb").close()
        cls.verbs = re.findall(r"^  ([a-z]+) ", cls.help_of(), re.MULTILINE)
        assert len(cls.verbs) > 10, cls.verbs

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def help_of(cls, *verb):
        return subprocess.run([cls.program, *verb, "--help"], capture_output=True, text=True, timeout=60,
                              check=True).stdout

    def environment(self):
        """Of a shell that finds the program and nothing of the user's."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OLLAMATRACE_")}
        return {**kept, "PATH": f"{self.prefix}/bin:{os.environ['PATH']}", "HOME": self.folder.name,
                "XDG_CONFIG_HOME": self.folder.name, "XDG_DATA_HOME": self.folder.name, "TERM": "dumb", "LC_ALL": "C"}

    def share(self, path):
        return os.path.join(self.prefix, "share", path)

    def test_finds_its_library(self):
        trace = os.path.join(self.folder.name, "session")
        done = subprocess.run([self.program, "record", "-o", trace, "--", "true"], env=self.environment(),
                              capture_output=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertTrue(any(name.endswith(".zst") for name in os.listdir(trace)), os.listdir(trace))

    def test_each_verb_has_a_page_with_all_its_options(self):
        pages = sorted(os.listdir(self.share("man/man1")))
        self.assertEqual(pages, sorted(["ollama-leakview.1"] + [f"ollama-leakview-{verb}.1" for verb in self.verbs]))
        for verb in self.verbs:
            with open(self.share(f"man/man1/ollama-leakview-{verb}.1"), encoding="utf-8") as file:
                page = file.read()
            options = re.findall(r"^  (-[^ =,]+)", self.help_of(verb), re.MULTILINE)
            self.assertIn("-h", options)
            for option in options:
                self.assertIn(f"\\fB{option}".replace("-", "\\-"), page, verb)
            for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES"):
                self.assertIn(f".SH {section}\n", page, verb)

    @needs("groff")
    def test_groff_formats_the_pages_without_a_warning(self):
        for verb in self.verbs:
            done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-P-c", self.share(f"man/man1/ollama-leakview-{verb}.1")],
                                  capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), verb)
            # As typed: quotes, hyphens and backslashes are those of the help.
            example = re.search(r"^Example: (.+)$", self.help_of(verb), re.MULTILINE).group(1)
            self.assertIn(" ".join(example.split()), " ".join(re.sub("\x1b\\[[0-9;]*m|.\b", "", done.stdout).split()))

    @needs("mandoc")
    def test_mandoc_finds_no_error_in_the_pages(self):
        for verb in self.verbs:
            done = subprocess.run(["mandoc", "-T", "lint", "-W", "error", self.share(f"man/man1/ollama-leakview-{verb}.1")],
                                  capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual((done.returncode, done.stdout), (0, ""), verb)

    # What a key press at the end of a line would offer: the same questions to each shell.
    QUESTIONS = (
        ("ollama-leakview re", {"report", "record"}, {"html"}),
        ("ollama-leakview report --gr", {"--group-by"}, {"--top"}),
        ("ollama-leakview report --group-by=", {"stack", "function", "module", "thread"}, {"some.yaml"}),
        ("ollama-leakview export --format=s", {"speedscope", "sqlite"}, {"pprof"}),
        ("ollama-leakview check --budget=some", {"some.yaml"}, set()),
        ("ollama-leakview report some", {"some.yaml", "some trace.zst"}, {"report"}),
        ("ollama-leakview completion ", {"bash", "zsh", "fish"}, {"some.yaml"}),
        ("ollama-leakview manual ti", {"timeline"}, {"some.yaml"}),
        ("ollama-leakview scan ", {"1"}, {"some.yaml"}),
        ("ollama-leakview record -- ollama-lea", {"ollama-leakview"}, {"some.yaml"}),
        ("ollama-leakview --until", {"--until"}, {"--metric"}),
    )

    def check_answers(self, ask):
        for line, wanted, unwanted in self.QUESTIONS:
            answers = ask(line)
            with self.subTest(line=line):
                self.assertTrue(wanted <= answers, (line, answers))
                self.assertFalse(unwanted & answers, (line, answers))

    @needs("bash")
    def test_bash(self):
        script = self.share("bash-completion/completions/ollama-leakview")
        # The words as readline makes them: '=' stands alone.
        program = (f"source '{script}'; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _ollama_leakview; "
                   "printf '%s\\n' \"${COMPREPLY[@]}\"")

        def ask(line):
            words = re.findall(r"=|[^ =]+", line) + ([""] if line.endswith(" ") else [])
            done = subprocess.run(["bash", "--norc", "--noprofile", "-c", program, "bash", *words], cwd=self.files,
                                  env=self.environment(), capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.stderr, "", line)
            return {answer.rstrip("=") for answer in done.stdout.split("\n")}

        self.check_answers(ask)

    @needs("fish")
    def test_fish(self):
        script = self.share("fish/vendor_completions.d/ollama-leakview.fish")

        def ask(line):
            done = subprocess.run(["fish", "--no-config", "-c", f"source '{script}'; complete --do-complete '{line}'"],
                                  cwd=self.files, env=self.environment(), capture_output=True, text=True, timeout=60,
                                  check=False)
            self.assertEqual(done.stderr, "", line)
            answers = {answer.split("\t")[0] for answer in done.stdout.split("\n")}
            return {re.sub("^--[a-z-]+=(?=.)", "", answer).rstrip("=").replace("\\ ", " ") for answer in answers}

        self.check_answers(ask)

    @needs("zsh")
    def test_zsh(self):
        # Zsh completes in its line editor alone: a terminal of its own, and the list that a press of Tab brings.
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 1000, 400, 0, 0))
        setup = os.path.join(self.folder.name, "setup.zsh")
        with open(setup, "w", encoding="utf-8") as file:
            file.write(f"""
                PS1='<ready>' LISTMAX=100000
                unset zle_bracketed_paste
                unsetopt beep list_ambiguous
                fpath=('{self.share('zsh/site-functions')}' $fpath)
                autoload -U compinit; compinit -u -D
                zstyle ':completion:*' list-prompt ''
                zstyle ':completion:*' list-separator '@@'
                # What stands behind a list: Ctrl-X m prints it.
                mark() {{ print -n '<end>' }}
                zle -N mark
                bindkey '^Xm' mark
                bindkey '^I' list-choices
                bindkey '^U' kill-whole-line
            """)
        with subprocess.Popen(["zsh", "-f", "-i"], stdin=slave, stdout=slave, stderr=slave, cwd=self.files,
                              env=self.environment(), start_new_session=True) as shell:
            os.close(slave)

            def read_until(end):
                text = b""
                deadline = time.monotonic() + 60
                while not text.rstrip(b" \r").endswith(end):
                    if not select.select([master], [], [], max(0, deadline - time.monotonic()))[0]:
                        self.fail(f"zsh says no more after {text!r}")
                    text += os.read(master, 65536)
                return text.decode()

            def ask(line):
                os.write(master, line.encode() + b"\t\x18m")
                listed = read_until(b"<end>")
                os.write(master, b"\x15")
                answers = set()
                for row in re.split(r"[\r\n]+", re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", listed)):
                    for answer in re.split(r"  +|@@.*| [?]", row):  # a process's row: its number, then its terminal
                        answers.add(answer.strip().rstrip("=/*@").replace("\\ ", " "))
                return answers

            try:
                os.write(master, f"source '{setup}'\n".encode())
                read_until(b"<ready>")
                self.check_answers(ask)
            finally:
                shell.kill()
                os.close(master)


if __name__ == "__main__":
    unittest.main()
