"""The file libollamatrace.so itself: what it needs, what it exports, and that it works when copied alone."""

import os
import re
import shutil

import tracing

# Every function that the library stands in front of. Nothing else may be visible: an exported helper could take the
# place of a function of the target's.
HOOKS = {
    "malloc", "calloc", "realloc", "free", "posix_memalign", "aligned_alloc", "memalign", "valloc", "pvalloc",
    "free_sized", "free_aligned_sized", "mmap", "mmap64", "munmap", "mremap", "brk", "sbrk",
    "dlclose",  # when a module goes, its frames must be told from those of the next at its addresses
    "ollamatrace_capture_api",  # the way in for libollamatrace-cupti.so
}
with open(os.path.join(tracing.SOURCE, "preload", "cuda_calls.h"), encoding="ascii") as calls:
    HOOKS.update(re.findall(r"X\((cu\w+)\)", calls.read()))
NEWEST_GLIBC = (2, 34)


class LibraryFileTest(tracing.TestCase):

    def readelf(self, *options):
        done = tracing.run([self.program("readelf"), "-W", *options, tracing.LIB])
        self.assertEqual(done.status, 0, done.stderr)
        return done.stdout.decode()

    def symbols(self):
        """(name with its version, bind, section) of each dynamic symbol."""
        rows = []
        for line in self.readelf("--dyn-syms").splitlines():
            parts = line.split()
            if len(parts) >= 8 and re.match(r"\d+:$", parts[0]):
                rows.append((parts[7], parts[4], parts[6]))
        self.assertTrue(rows)
        return rows

    def test_needs_libc_alone(self):
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", self.readelf("-d"))
        self.assertEqual(needed, ["libc.so.6"])
        self.assertNotIn("RUNPATH", self.readelf("-d"))
        self.assertNotIn("TEXTREL", self.readelf("-d"))

    def test_no_new_glibc(self):
        versions = re.findall(r"GLIBC_([0-9.]+)", self.readelf("-V"))
        self.assertTrue(versions)
        for version in versions:
            self.assertLessEqual(tuple(map(int, version.split("."))), NEWEST_GLIBC, version)

    def test_no_cxx_runtime(self):
        undefined = {name for name, _, section in self.symbols() if section == "UND"}
        for name in undefined:
            self.assertNotRegex(name, r"^(_Z|__cxa_(?!finalize|atexit)|__gxx|_Unwind|unw_)")
            self.assertNotRegex(name, r"GLIBCXX|CXXABI")
        self.assertFalse([n for n in undefined if n.startswith("__tls_get_addr")])

    def test_exports_are_the_hooks(self):
        exported = {re.sub("@.*", "", name) for name, bind, section in self.symbols()
                    if section not in ("UND", "ABS") and bind in ("GLOBAL", "WEAK")}
        self.assertEqual(sorted(exported), sorted(HOOKS))

    def test_no_writable_code(self):
        segments = re.findall(r"^\s+(\S+)\s+0x\S+ 0x\S+ 0x\S+ 0x\S+ 0x\S+ ([R ][W ][E ])", self.readelf("-l"), re.M)
        self.assertTrue(any(kind == "LOAD" for kind, _ in segments))
        for kind, flags in segments:
            self.assertFalse("W" in flags and "E" in flags, f"{kind} {flags}")

    def test_small_static_tls(self):
        """Static TLS runs out in processes that load late; and it must not need the dynamic kind."""
        sizes = re.findall(r"^\s+TLS\s+0x\S+ 0x\S+ 0x\S+ 0x\S+ 0x(\S+)", self.readelf("-l"), re.M)
        for size in sizes:
            self.assertLessEqual(int(size, 16), 256)

    def test_works_when_copied_alone(self):
        folder = self.folder()
        library = shutil.copy(tracing.LIB, os.path.join(folder, "libollamatrace.so"))
        session = os.path.join(folder, "session")
        plain = tracing.run(["ls", "-l", "/usr"])
        traced = tracing.run(["ls", "-l", "/usr"],
                             tracing.plain_environment(LD_PRELOAD=library, OLLAMATRACE_DIR=session))
        self.assertEqual(traced, plain)
        processes = tracing.report(session)["processes"]
        self.assertEqual([tracing.exe_name(p) for p in processes], ["ls"])
        self.assertGreater(processes[0]["host"]["allocations"], 10)

    def test_works_where_nothing_else_is(self):
        """In a root file system with a shell, cat and libc: no other library, no /proc, no /tmp."""
        root = self.folder()
        shell, cat = self.program("dash"), self.program("cat")
        for path in {shell, cat, *self.libraries_of(shell), *self.libraries_of(cat)}:
            os.makedirs(root + os.path.dirname(path), exist_ok=True)
            shutil.copy(path, root + path)
        shutil.copy(tracing.LIB, root)
        with open(os.path.join(root, "text"), "w", encoding="utf-8") as file:
            file.write("said in an empty house\n" * 1000)
        enter = ["chroot", root] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--root", root]
        if tracing.run([*enter, shell, "-c", ":"]).status != 0:
            self.skipTest("neither chroot nor user namespaces are permitted here")
        command = f"{shell} -c 'read line < /text; echo $line; {cat} /text; exit 7'"
        plain = tracing.run([*enter, shell, "-c", command])
        self.assertEqual((plain.status, len(plain.stdout), plain.stderr), (7, 1001 * 23, b""))
        traced = tracing.run([*enter, shell, "-c", f"LD_PRELOAD=/libollamatrace.so OLLAMATRACE_DIR=/d {command}"])
        self.assertEqual(traced, plain)
        report = tracing.report(os.path.join(root, "d"))
        self.assert_nothing_lost(report)
        processes = report["processes"]
        self.assertEqual({tracing.exe_name(p) for p in processes if p["end"] != "exec"}, {"dash", "cat"})
        self.assertGreater(sum(p["host"]["allocations"] for p in processes), 2)

    def libraries_of(self, program):
        """The program's interpreter and libraries; the test is about programs that need libc alone."""
        done = tracing.run(["ldd", program])
        paths = re.findall(r"(/\S+) \(0x", done.stdout.decode())
        self.assertEqual(done.status, 0, done.stderr)
        names = {re.sub(r"[-.].*", "", os.path.basename(path)) for path in paths}
        self.assertLessEqual(names, {"ld", "libc"}, paths)
        return paths

    def test_session_files_are_private(self):
        session = os.path.join(self.folder(), "session")
        tracing.run(["ls"], tracing.traced_environment(session))
        files = os.listdir(session)
        self.assertTrue([name for name in files if re.match(r"ls\.\d+\.\d+\.zst$", name)], files)
        for name in files:
            self.assertEqual(os.stat(os.path.join(session, name)).st_mode & 0o777, 0o600, name)


if __name__ == "__main__":
    tracing.main()
