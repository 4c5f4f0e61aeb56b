"""Shells that start many commands, interpreters, Go: each process leaves a trace of its own."""

import collections
import os
import shutil
import subprocess

import tracing

GO_SOURCE = r"""
package main

// #include <stdlib.h>
// #include <string.h>
// static void* keep[256];
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
        session = os.path.join(self.folder(), "session")
        plain = tracing.run(command, tracing.plain_environment(**settings))
        traced = tracing.run(command, tracing.traced_environment(session, **settings))
        self.assertEqual(traced, plain)
        report = tracing.report(session)
        for process in report["processes"]:
            self.assertEqual(process["lost_events"], 0, process)
            self.assertIn(process["end"], ("exited", "exec"), process)
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
        self.assertTrue(pythons, report["processes"])
        self.assertGreater(max(p["host"]["peak_bytes"] for p in pythons), 50 * 100000)

    def test_node(self):
        node = self.program("node")
        report = self.trace([node, "-e", "const keep = []; for (let i = 0; i < 50; ++i) "
                             "keep.push(Buffer.alloc(100000, i)); console.log(keep.length)"])
        nodes = [p for p in report["processes"] if tracing.exe_name(p).startswith("node")]
        self.assertTrue(nodes, report["processes"])
        self.assertGreater(max(p["host"]["peak_bytes"] for p in nodes), 50 * 100000)

    def test_stripped_go_with_cgo(self):
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
        report = self.trace([program])
        self.assertEqual([tracing.exe_name(p) for p in report["processes"]], ["cgo_leak"])
        heap = [g for g in report["groups"] if g["domain"] == "heap" and g["live_bytes"] >= 200 * 10000]
        self.assertEqual([g["live_blocks"] for g in heap], [200], report["groups"][:3])
        self.assertIn("cgo_leak", heap[0]["frames"][0]["module"], tracing.frames_text(heap[0]))
        # Go's own heap comes through mmap.
        self.assertTrue([g for g in report["groups"] if g["domain"] == "mapping" and g["live_bytes"] > 1 << 20])

    def test_bash_starts_all_of_them(self):
        commands = [c for c in ("python3 -c 'print(1)'", "node -e 'console.log(2)'", "perl -e 'print 3'",
                                f"{tracing.LEAKY_SERVER} --expect") if shutil.which(c.split()[0])]
        report = self.trace(["bash", "-c", "; ".join(commands)], PYTHONHASHSEED="0")
        names = {tracing.exe_name(p) for p in report["processes"]}
        self.assertIn("leaky_server", names)
        for command in commands[:-1]:
            self.assertTrue([n for n in names if n.startswith(command.split()[0])], (command, names))


if __name__ == "__main__":
    tracing.main()
