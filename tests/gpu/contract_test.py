"""The contract with CUPTI and the driver, held against the real files of CUDA 12 and 13, without a GPU: numbers and names of
the callbacks, sizes and fields of the structures, and what a real libcupti does where there is no driver.
"""

import os
import sys

import gpu

CUDA = os.path.join(gpu.tracing.SOURCE, "build", "cuda")
VERSIONS = ("12", "13", "13.5")
# Without a driver it answers each question with an error.
SILENT = ("13.5",)
# CUPTI_ERROR_NOT_INITIALIZED and CUPTI_ERROR_UNKNOWN: what they answer where there is no driver.
NO_DRIVER = r"(CUPTI_ERROR_NOT_INITIALIZED \(15\)|CUPTI_ERROR_UNKNOWN \(999\)|error \(999\))"

# Run in a process of its own, as it loads a libcupti: the name of each callback of the driver's domain, a line each.
NAMES = """
import ctypes, sys
cupti = ctypes.CDLL(sys.argv[1])
version = ctypes.c_uint32()
assert cupti.cuptiGetVersion(ctypes.byref(version)) == 0
print("version", version.value)
name = ctypes.c_char_p()
for number in range(1, 2000):
    if cupti.cuptiGetCallbackName(1, number, ctypes.byref(name)) == 0 and name.value:
        print(number, name.value.decode())
"""


class ContractTest(gpu.GpuTest):

    def include(self, major):
        folder = os.path.join(CUDA, major, "include")
        if not os.path.exists(os.path.join(folder, "cupti.h")):
            self.skipTest(f"no headers of CUDA {major}: scripts/fetch-cuda did not get them")
        return folder

    def cupti(self, major):
        path = os.path.join(CUDA, major, "lib", f"libcupti.so.{major.split('.')[0]}")
        if not os.path.exists(path):
            self.skipTest(f"no libcupti of CUDA {major}: scripts/fetch-cuda did not get it")
        return path

    def facts(self, major):
        folder = self.folder()
        program = os.path.join(folder, "contract" + major)
        compiler = os.environ.get("CXX", "c++")
        done = gpu.tracing.run([
            self.program(compiler), "-std=c++20", "-Wno-invalid-offsetof", "-isystem", self.include(major), "-I",
            gpu.tracing.SOURCE, "-o", program, os.path.join(gpu.tracing.SOURCE, "tests", "gpu", "contract.cc")])
        self.assertEqual(done.status, 0, done.stderr.decode())
        done = gpu.tracing.run([program])
        self.assertEqual(done.status, 0)
        return done.stdout.decode().splitlines()

    def numbers(self, facts):
        return {int(number): name for kind, name, number in (line.split() for line in facts if line.startswith("driver "))}

    def real_names(self, major):
        done = gpu.tracing.run([sys.executable, "-c", NAMES, self.cupti(major)])
        self.assertEqual(done.status, 0, done.stderr.decode())
        version, *rows = done.stdout.decode().splitlines()
        names = dict((int(number), name) for number, name in (row.split() for row in rows))
        self.assertGreater(len(names), 700, f"CUDA {major}")
        return int(version.split()[1]), names

    def test_headers_of_12_and_13_say_the_same(self):
        facts = self.facts("12")
        for version in ("13", "13.5"):
            with self.subTest(version):
                self.assertEqual(self.facts(version), facts)

    def test_callbacks_have_their_names_in_the_real_libcupti(self):
        for major in VERSIONS:
            if major in SILENT:
                continue
            with self.subTest(major):
                version, names = self.real_names(major)
                self.assertTrue(18 <= version < 100 if major == "12" else 130000 <= version < 140000, version)
                numbers = self.numbers(self.facts(major))
                self.assertGreater(len(numbers), 35)
                for number, name in numbers.items():
                    self.assertEqual(names.get(number), name, f"callback {number} of CUDA {major}")

    def test_no_driver(self):
        """A real libcupti, and no driver behind it: the target is unharmed and the reason is in the trace."""
        inject = ("import ctypes, sys; started = ctypes.CDLL(sys.argv[1]).InitializeInjection(); "
                  "print('injected', started, len(bytearray(1 << 20)))")
        for major in VERSIONS:
            with self.subTest(major):
                path = self.cupti(major)
                session = os.path.join(self.folder(), "session")
                done = gpu.tracing.run([sys.executable, "-c", inject, gpu.CAPTURE],
                                       gpu.tracing.traced_environment(session, OLLAMATRACE_CUPTI=path))
                self.assertEqual((done.status, done.stdout, done.stderr), (0, b"injected 1 1048576\n", b""))
                report = gpu.tracing.report(session)
                self.assert_nothing_lost(report)
                capture = gpu.tracing.last_image(report, report["processes"][-1]["pid"])["gpu_capture"]
                self.assertEqual((capture["state"], capture["where"]), ("unavailable", path))
                self.assertRegex(capture["reason"], rf"^cupti(Subscribe|GetVersion) failed: {NO_DRIVER}$")

    def test_a_driver_that_is_none(self):
        """A real libcupti finds a libcuda without the tables that it needs."""
        for major in VERSIONS:
            with self.subTest(major):
                path = self.cupti(major)
                process = self.only(self.run_script(["init", "context a 0", "device a 1000"], cupti=path))
                capture = process["gpu_capture"]
                self.assertEqual((capture["state"], capture["where"]), ("partial", path))
                self.assertRegex(capture["reason"], r": cupti(Subscribe|GetVersion) failed: ")
                self.assertEqual([(row["domain"], row["live_bytes"]) for row in process["gpu"]], [("device", 1000)])

    def test_wheels_are_found_beside_the_runtime(self):
        """Where the process has a CUDA runtime loaded, the libcupti that lies beside it is found."""
        runtime = os.path.join(CUDA, "13", "lib", "libcudart.so.13")
        if not os.path.exists(runtime):
            self.skipTest("no runtime of CUDA 13: scripts/fetch-cuda did not get it")
        report = self.run_script([f"load {runtime}", "init"], cupti=None)
        self.assertEqual(self.only(report)["gpu_capture"]["where"], os.path.join(CUDA, "13", "lib", "libcupti.so.13"))


if __name__ == "__main__":
    gpu.main()
