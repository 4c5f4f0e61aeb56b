"""Without CUPTI: calls by name, of the driver's functions and of the runtime's, exact; what is not seen is said."""

import os
import sys

import gpu

NOT_SEEN = "GPU capture is partial: cuBLAS and NCCL not seen, only calls by name: "


class PartialTest(gpu.GpuTest):

    def partial(self, lines, cupti=gpu.CUPTI, status=0, **settings):
        report = self.run_script(lines, cupti=cupti, status=status, FAKE_CUPTI="taken",
                                 LD_LIBRARY_PATH=os.path.join(gpu.DIR, "driver"), **settings)
        self.assert_nothing_lost(report)
        self.assertTrue([n for n in report["coverage"]["notes"] if NOT_SEEN in n], report["coverage"]["notes"])
        return report

    def frames(self, report, domain):
        return {(g["frames"][0]["function"], g["frames"][1]["function"]) for g in report["groups"]
                if g["domain"] == domain}

    def test_the_drivers_functions(self):
        lines = ["init", "context a 0"]
        model = gpu.Model()
        for command, domain, free in (("device", "device", "free"), ("managed", "managed", "free"),
                                      ("pinned", "pinned", "free-host"), ("pool", "pool", "free-async")):
            lines += [f"{command} {domain}1 100001", f"{command} {domain}2 200000", f"{free} {domain}2"]
            model.alloc(0, domain, 100001)
            model.alloc(0, domain, 200000)
            model.free(0, domain, 200000)
        lines += ["pitch p 100 7", "register r 4001", "register s 4000", "unregister s", "array x 10 5", "array y 10 10",
                  "free-array y", "graph g", "node n g 3001", "exec e", "exec f", "free-exec f", "reserve v 33554432",
                  "create h 2097152 1", "map m v 0 h 2097152", "release h"]
        model.alloc(0, "device", 512 * 7)
        model.alloc(0, "registered", 4001)
        model.alloc(0, "registered", 4000)
        model.free(0, "registered", 4000)
        model.alloc(0, "array", 10 * 5 * 16)
        model.alloc(0, "array", 10 * 10 * 16)
        model.free(0, "array", 10 * 10 * 16)
        model.alloc(0, "graph", 3001)
        model.alloc(0, "graph-exec", 0, 2)
        model.free(0, "graph-exec", 0)
        model.alloc(0, "address-space", 33554432)
        model.alloc(1, "virtual", 2097152)
        model.alloc(0, "mapped", 2097152)
        report = self.partial(lines)
        self.assert_ledgers(self.only(report), model)
        self.assertEqual({(a, b.split("::")[-1].split("(")[0]) for a, b in self.frames(report, "device")},
                         {("cuMemAlloc_v2", "AllocDevice"), ("cuMemAllocPitch_v2", "AllocPitch")})

    def test_the_runtimes_functions(self):
        """Of a library that was loaded by RTLD_LOCAL with its runtime, as ggml-cuda is; nothing but its calls starts CUDA."""
        lines = ["user UserMalloc a 1001 0", "user UserMalloc b 2000 0", "user UserFree b 0 0",
                 "user UserMallocPitch c 100 3", "user UserManaged d 3001 0", "user UserMallocHost e 4001 0",
                 "user UserMallocHost f 5000 0", "user UserFreeHost f 0 0", "user UserMallocAsync g 6001 0",
                 "user UserMallocAsync h 7000 0", "user UserFreeAsync h 0 0", "user UserMallocArray i 10 3",
                 "user UserMallocArray j 10 10", "user UserFreeArray j 0 0", "user UserInstantiate k 0 0",
                 "user UserInstantiate l 0 0", "user UserExecDestroy l 0 0"]
        model = gpu.Model()
        for domain, kept, freed in (("device", 1001, 2000), ("pinned", 4001, 5000), ("pool", 6001, 7000),
                                    ("array", 10 * 3 * 8, 10 * 10 * 8), ("graph-exec", 0, 0)):
            model.alloc(0, domain, kept)
            model.alloc(0, domain, freed)
            model.free(0, domain, freed)
        model.alloc(0, "device", 512 * 3)
        model.ledgers[(0, "device")]["peak_bytes"] = 3001
        model.alloc(0, "managed", 3001)
        report = self.partial(lines)
        self.assert_ledgers(self.only(report), model)
        self.assertEqual(self.frames(report, "device"), {("cudaMalloc", "UserMalloc"), ("cudaMallocPitch", "UserMallocPitch")})
        self.assertEqual(self.frames(report, "pinned"), {("cudaMallocHost", "UserMallocHost")})

    def test_reset_and_destroyed_contexts(self):
        lines = ["init", "context a 1", "device a 1000", "destroy a", "context b 1", "device b 2000", "destroy b"]
        model = gpu.Model()
        for size in (1000, 2000):
            model.alloc(1, "device", size)
            model.free(1, "device", size, implicit=True)
        lines += ["user UserMalloc c 300 0", "user UserMallocAsync d 400 0", "user UserReset x 0 0", "user UserMalloc e 500 0"]
        for domain, size in (("device", 300), ("pool", 400)):
            model.alloc(0, domain, size)
            model.free(0, domain, size, implicit=True)
        model.alloc(0, "device", 500)
        self.assert_ledgers(self.only(self.partial(lines)), model)

    def test_calls_that_fail(self):
        lines = ["init", "context a 0", "fail 2", f"device a {1 << 40}", "fail 2", f"user UserMalloc b {1 << 41} 0",
                 "device c 3000", "fail 4", "free c"]
        model = gpu.Model()
        model.alloc(0, "device", 3000)
        process = self.only(self.partial(lines))
        self.assert_ledgers(process, model)
        self.assertEqual([(f["kind"], f["function"], f["status"], f["size"]) for f in process["gpu_capture"]["failures"]],
                         [("allocation", "cuMemAlloc_v2", 2, 1 << 40), ("allocation", "cudaMalloc", 2, 1 << 41),
                          ("free", "cuMemAlloc_v2", 4, 3000)])

    def test_cublas_is_not_seen(self):
        model = gpu.Model()
        model.alloc(0, "device", 3000)
        process = self.only(self.partial(["init", "context a 0", "device a 3000", "cublas w 5000"]))
        self.assert_ledgers(process, model)

    def test_threads_and_kill(self):
        process = self.only(self.partial(["init", "threads 8 500 4096", "kill"], status=-9))
        (row,) = process["gpu"]
        self.assertEqual((row["live_bytes"], row["allocations"], row["frees"]), (8 * 4096, 8 * 500, 8 * 499))

    def test_young_pairs_are_folded(self):
        model = gpu.Model()
        for _ in range(5000):
            model.alloc(0, "pool", 1024)
            model.free(0, "pool", 1024)
        self.assert_ledgers(self.only(self.partial(["init", "context a 0", "churn 5000 1024"])), model)

    def test_fork(self):
        report = self.run_script(["init", "context a 0", "device a 1000", "fork", "device b 2000"], FAKE_CUPTI="taken")
        parent, child = sorted(report["processes"], key=lambda p: p["start"])
        model = gpu.Model()
        model.alloc(0, "device", 1000)
        model.alloc(0, "device", 2000)
        self.assert_ledgers(parent, model)
        self.assertEqual((child["gpu"], child["gpu_capture"]["state"]), ([], "unavailable"))
        self.assertIn("forked after CUDA had started", child["gpu_capture"]["reason"])

    def test_cupti_and_names_count_once(self):
        """While CUPTI tells of each call, calls by name are passed on alone."""
        report = self.run_script(["user UserMalloc a 1000 0", "user UserFree a 0 0", "user UserMalloc b 2000 0", "cublas w 3"],
                                 LD_LIBRARY_PATH=os.path.join(gpu.DIR, "driver"))
        process = self.only(report)
        self.assert_active(process)
        model = gpu.Model()
        model.alloc(0, "device", 1000)
        model.free(0, "device", 1000)
        model.alloc(0, "device", 2000)
        model.alloc(0, "device", 3)
        self.assert_ledgers(process, model)

    def test_a_process_without_cuda(self):
        """It finds the names, and is told that CUDA was not initialized."""
        program = ("import ctypes; p = ctypes.c_void_p(); me = ctypes.CDLL(None); "
                   "print(me.cudaMalloc(ctypes.byref(p), 8), me.cuMemAlloc_v2(ctypes.byref(p), 8), p.value)")
        session = os.path.join(self.folder(), "session")
        done = gpu.tracing.run([sys.executable, "-c", program], gpu.tracing.traced_environment(session))
        self.assertEqual((done.status, done.stdout, done.stderr), (0, b"3 3 None\n", b""))
        for process in gpu.tracing.report(session)["processes"]:
            self.assertEqual(process["gpu"], [])


if __name__ == "__main__":
    gpu.main()
