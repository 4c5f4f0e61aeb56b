"""The stack goes on from C to the goroutine that called it, in programs of each Go version that is known, and only there.

Versions other than the one that is installed are tested by hand: OLLAMATRACE_GO names go commands, separated by colons,
    OLLAMATRACE_GO=/usr/lib/go-1.19/bin/go:$HOME/sdk/go1.21.13/bin/go ctest --test-dir build/release -R go_stacks_versions -V
"""

import os
import shutil
import subprocess

import tracing

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "go_stacks.go")
MAGIC = b"\xff Go buildinf:"

# From the function in C outwards. runtime.cgocall is there since Go 1.21.
DIRECT = ["KeepDirectly", "runtime.asmcgocall", "main._Cfunc_KeepDirectly", "main.innerOne", "main.outerOne",
          "main.main.func1"]
CALLED_BACK = ["KeepInCallback", "runtime.asmcgocall", "main.innerTwo", "main.CallBack", "runtime.cgocallback",
               "crosscall2", "CallGoBack", "runtime.asmcgocall", "main.outerTwo", "main.main.func1"]


def build(go, folder, *flags):
    """The path of the program, built by `go`; skips when it cannot."""
    program = os.path.join(folder, "go_stacks")
    cache = os.path.join(tracing.BUILD, "go-cache")
    environment = tracing.plain_environment(
        CGO_ENABLED="1", GO111MODULE="off", GOTOOLCHAIN="local", GOFLAGS="", GOCACHE=cache,
        GOPATH=os.path.join(folder, "go-path"))
    environment.pop("GOROOT", None)
    try:
        done = tracing.run([go, "build", *flags, "-o", program, PROGRAM], environment, cwd=folder, timeout=400)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise tracing.unittest.SkipTest(f"{go}: {error}")
    if done.status != 0:
        raise tracing.unittest.SkipTest(f"{go} cannot build a cgo program: {done.stderr.decode(errors='replace')}")
    return program


def version_at(program):
    """Where the version of Go stands in the file, and its text."""
    with open(program, "rb") as file:
        content = file.read()
    at = content.find(MAGIC)
    assert at > 0 and content.find(MAGIC, at + 1) < 0, "one .go.buildinfo expected"
    size = content[at + 32]
    return at + 33, content[at + 33:at + 33 + size].decode()


class GoStacksTest(tracing.TestCase):

    def stacks(self, program):
        """The names of the frames of each group in C's heap that hangs on a function Keep..., innermost first."""
        session = self.folder()
        done = tracing.run([program], tracing.traced_environment(session))
        self.assertEqual((done.status, done.stdout, done.stderr), (0, b"done\n", b""))
        report = tracing.report(session)
        self.assert_nothing_lost(report)
        stacks = []
        for group in report["groups"]:
            names = [frame.get("function") or "?" for frame in group["frames"]]
            # C's names do not outlive stripping: the sizes tell the blocks, too.
            if group["live_blocks"] == 40 and group["live_bytes"] in (40 * 61, 40 * 62):
                stacks.append((group["live_bytes"] // 40, names))
        return dict(stacks)

    def assert_in_order(self, wanted, names):
        rest = iter(names)
        for name in wanted:
            self.assertIn(name, rest, f"{name} is missing, or out of order, in {names}")

    def check(self, go):
        program = build(go, self.folder())
        version = version_at(program)[1]
        print(f"{go}: {version}", flush=True)
        stacks = self.stacks(program)
        self.assertEqual(sorted(stacks), [61, 62])
        self.assert_in_order(DIRECT, stacks[61])
        self.assert_in_order(CALLED_BACK, stacks[62])
        return program

    def go(self):
        path = shutil.which("go") or "/usr/local/go/bin/go"
        if not os.access(path, os.X_OK):
            self.skipTest("go is not installed")
        return path


class InstalledTest(GoStacksTest):

    def test_goes_on_to_the_goroutine(self):
        self.check(self.go())

    def test_so_it_does_when_stripped(self):
        program = build(self.go(), self.folder(), "-ldflags", "-s -w")
        names = self.stacks(program)[61]
        self.assert_in_order([name for name in DIRECT if "." in name], names)

    def test_ends_at_the_switch_when_the_version_is_unknown(self):
        program = build(self.go(), self.folder())
        at, version = version_at(program)
        self.assertRegex(version, r"^go1\.\d\d")
        with open(program, "r+b") as file:
            file.seek(at)
            file.write(b"go9.99")
        self.assertRegex(version_at(program)[1], r"^go9\.99")
        stacks = self.stacks(program)
        self.assertEqual(sorted(stacks), [61, 62])
        for names in stacks.values():
            self.assertEqual(names[-1], "runtime.asmcgocall", names)
            self.assertFalse([name for name in names if name.startswith("main.")], names)


class VersionsTest(GoStacksTest):

    def test_other_versions(self):
        commands = [go for go in os.environ.get("OLLAMATRACE_GO", "").split(":") if go]
        if not commands:
            self.skipTest("OLLAMATRACE_GO names no go commands")
        for go in commands:
            with self.subTest(go=go):
                self.check(go)


if __name__ == "__main__":
    tracing.main()
