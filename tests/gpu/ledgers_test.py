"""Every ledger, exact: what a script does to the fake driver is what the report says."""

import os

import gpu


class LedgersTest(gpu.GpuTest):

    def frames(self, report, domain):
        """The innermost frames of the domain's groups: the driver's function, then the program's."""
        return sorted((g["frames"][0]["function"], next(f["function"].split("::")[-1] for f in g["frames"]
                                                         if (f["module"] or "").endswith("/gpu_script")))
                      for g in report["groups"] if g["domain"] == domain)

    def test_one_of_each(self):
        lines = ["init", "context a 0"]
        model = gpu.Model()
        # What is kept has an odd size, what is freed an even one.
        for command, domain, free in (("device", "device", "free"), ("managed", "managed", "free"),
                                      ("pinned", "pinned", "free-host"), ("pool", "pool", "free-async")):
            lines += [f"{command} {domain}1 100001", f"{command} {domain}2 200000", f"{free} {domain}2"]
            model.alloc(0, domain, 100001)
            model.alloc(0, domain, 200000)
            model.free(0, domain, 200000)
        lines += ["pitch p 100 7"]
        model.alloc(0, "device", 512 * 7)
        lines += ["register r 4001", "register s 4000", "unregister s"]
        model.alloc(0, "registered", 4001)
        model.alloc(0, "registered", 4000)
        model.free(0, "registered", 4000)
        lines += ["array x 10 5", "array y 10 10", "free-array y"]
        model.alloc(0, "array", 10 * 5 * 16)
        model.alloc(0, "array", 10 * 10 * 16)
        model.free(0, "array", 10 * 10 * 16)
        lines += ["import i 0", "import j 0", "close j"]
        model.alloc(0, "imported", 0, 2)
        model.free(0, "imported", 0)
        lines += ["graph g", "graph h", "node n g 3001", "node o h 3000", "node q h 3000", "free-graph h"]
        model.alloc(0, "graph", 3001)
        model.alloc(0, "graph", 3000, 2)
        model.free(0, "graph", 3000, 2)
        lines += ["exec e", "exec f", "exec k", "free-exec f"]
        model.alloc(0, "graph-exec", 0, 3)
        model.free(0, "graph-exec", 0)
        report = self.run_script(lines)
        self.assert_nothing_lost(report)
        process = self.only(report)
        self.assert_active(process)
        self.assert_ledgers(process, model)
        self.assertEqual(self.frames(report, "device"),
                         [("cuMemAllocPitch_v2", "AllocPitch"),
                          ("cuMemAlloc_v2", "AllocDevice")])
        self.assertEqual(self.frames(report, "graph-exec")[0][0], "cuGraphInstantiate")
        groups = [g for g in report["groups"] if g["domain"] == "device"]
        self.assertEqual({g["device"] for g in groups}, {0})
        for group in groups:
            self.assertFalse([f for f in group["frames"] if "cupti" in (f["module"] or "")], group)
            self.assertEqual(group["frames"][0]["module"], "[GPU 0, context 1]")

    def test_physical_memory_lives_as_long_as_it_is_mapped(self):
        """As ggml's pool: each growth is create, map, release at once; one unmap over all at the end."""
        lines = ["init", "context a 0", "reserve pool 34359738368"]
        model = gpu.Model()
        model.alloc(0, "address-space", 32 << 30)
        at = 0
        for i, size in enumerate((2 << 20, 4 << 20, 32 << 20)):
            lines += [f"create h{i} {size} 0", f"map m{i} pool {at} h{i} {size}", f"release h{i}"]
            model.alloc(0, "virtual", size)
            model.alloc(0, "mapped", size)
            at += size
        with self.subTest("in use"):
            self.assert_ledgers(self.only(self.run_script(lines)), model)
        lines += [f"unmap pool 0 {at}", f"unreserve pool {32 << 30}"]
        for size in (2 << 20, 4 << 20, 32 << 20):
            model.free(0, "virtual", size)
            model.free(0, "mapped", size)
        model.free(0, "address-space", 32 << 30)
        with self.subTest("given back"):
            self.assert_ledgers(self.only(self.run_script(lines)), model)

    def test_references_and_mappings_of_physical_memory(self):
        size = 2 << 20
        lines = ["init", "context a 0", f"reserve r {8 * size}", f"create h {size} 1"]
        model = gpu.Model()
        model.alloc(0, "address-space", 8 * size)
        model.alloc(1, "virtual", size)
        lines += [f"map m0 r 0 h {size}", f"map m1 r {size} h {size}", "retain h", "release h", f"unmap r 0 {size}"]
        model.alloc(0, "mapped", size, 2)
        model.free(0, "mapped", size)
        with self.subTest("one handle and one mapping are left"):
            self.assert_ledgers(self.only(self.run_script(lines)), model)
        # Not the last handle, not the last mapping: neither call that fails changes anything.
        lines += ["fail 1", "release h", "fail 1", f"unmap r {size} {size}", f"unmap r {size} {size}"]
        model.free(0, "mapped", size)
        with self.subTest("one handle is left"):
            process = self.only(self.run_script(lines))
            self.assert_ledgers(process, model)
            self.assertEqual(process["gpu_capture"]["failed_frees"], 1)  # of the mapping: a handle has no bytes
        lines += ["fail 1", "release h", "release h"]
        model.free(1, "virtual", size)
        with self.subTest("none is left"):
            process = self.only(self.run_script(lines))
            self.assert_ledgers(process, model)
            self.assertEqual(process["gpu_capture"]["failed_frees"], 2)

    def test_unmap_that_fails_puts_all_back(self):
        size = 2 << 20
        lines = ["init", "context a 0", f"reserve r {4 * size}"]
        model = gpu.Model()
        model.alloc(0, "address-space", 4 * size)
        for i in range(3):
            lines += [f"create h{i} {size} 0", f"map m{i} r {i * size} h{i} {size}", f"release h{i}"]
        model.alloc(0, "virtual", size, 3)
        model.alloc(0, "mapped", size, 3)
        lines += ["fail 700", f"unmap r 0 {3 * size}"]
        with self.subTest("failed"):
            process = self.only(self.run_script(lines))
            self.assert_ledgers(process, model)
            self.assertEqual(process["gpu_capture"]["failed_frees"], 6)
        # With a hole at its beginning.
        lines += [f"unmap r 0 {size}", f"unmap r 0 {4 * size}"]
        model.free(0, "virtual", size, 3)
        model.free(0, "mapped", size, 3)
        with self.subTest("went through"):
            self.assert_ledgers(self.only(self.run_script(lines)), model)

    def test_frees_that_fail_are_taken_back(self):
        for mode in ("survivors", "full", "sample:1K"):
            with self.subTest(mode):
                model = gpu.Model()
                model.alloc(0, "device", 3000)
                model.alloc(0, "device", 5000)
                model.free(0, "device", 5000)
                report = self.run_script(["init", "context a 0", "device a 3000", "fail 4", "free a", "device b 5000",
                                          "fail 4", "free b", "fail 4", "free b", "free b"], OLLAMATRACE_MODE=mode)
                self.assert_nothing_lost(report)
                process = self.only(report)
                self.assert_ledgers(process, model)
                capture = process["gpu_capture"]
                self.assertEqual((capture["failed_frees"], capture["failed_allocations"]), (3, 0))
                self.assertEqual([(f["kind"], f["status"], f["size"], f["domain"]) for f in capture["failures"]],
                                 [("free", 4, size, "device") for size in (3000, 5000, 5000)])
                group = next(g for g in report["groups"] if g["domain"] == "device")
                self.assertEqual((group["allocations"], group["frees"], group["live_bytes"]), (2, 1, 3000))

    def test_allocations_that_fail(self):
        report = self.run_script(["init", "context a 3", f"fail 2", f"device a {1 << 40}", "fail 2", "pool b 4096",
                                  "free a", "free-async b", "device c 512"])
        process = self.only(report)
        model = gpu.Model()
        model.alloc(3, "device", 512)
        self.assert_ledgers(process, model)
        capture = process["gpu_capture"]
        self.assertEqual((capture["failed_allocations"], capture["failed_frees"]), (2, 0))
        self.assertEqual([(f["function"], f["status"], f["size"], f["device"]) for f in capture["failures"]],
                         [("cuMemAlloc_v2", 2, 1 << 40, 3), ("cuMemAllocAsync", 2, 4096, 3)])
        text = gpu.tracing.leakview("report", self.session).stdout
        self.assertIn("cuMemAlloc_v2 of 1.0 TiB on GPU 3: CUDA error 2", text)

    def test_contexts_end_what_is_theirs(self):
        lines = ["init", "context a 0", "device x 1000", "device y 3000", "managed m 500", "pool p 700",
                 "context b 1", "device z 5000", "destroy a", "current b", "device w 10"]
        model = gpu.Model()
        model.alloc(0, "device", 1000)
        model.alloc(0, "device", 3000)
        model.alloc(0, "managed", 500)
        model.alloc(0, "pool", 700)  # the device's, not the context's
        model.alloc(1, "device", 5000)
        model.free(0, "device", 1000, implicit=True)
        model.free(0, "device", 3000, implicit=True)
        model.free(0, "managed", 500, implicit=True)
        model.alloc(1, "device", 10)
        report = self.run_script(lines)
        self.assert_nothing_lost(report)
        self.assert_ledgers(self.only(report), model)
        text = gpu.tracing.leakview("report", self.session).stdout
        self.assertRegex(text, r"0 device .* 3.9 KiB in 2\n")

    def test_reset_ends_the_pools(self):
        model = gpu.Model()
        for device, reset in ((0, True), (1, False)):
            model.alloc(device, "pool", 700)
            if reset:
                model.free(device, "pool", 700, implicit=True)
        report = self.run_script(["init", "context a 0", "pool p 700", "context b 1", "pool q 700", "reset 0"])
        self.assert_ledgers(self.only(report), model)

    def test_two_contexts_at_one_address_are_two(self):
        """The context's handle is used again; its blocks are not those of the one before."""
        lines = ["init"]
        model = gpu.Model()
        for i in range(3):
            lines += ["context c 0", f"device d{i} {1000 + i}", "destroy c"]
            model.alloc(0, "device", 1000 + i)
            model.free(0, "device", 1000 + i, implicit=True)
        lines += ["context c 0", "device e 7"]
        model.alloc(0, "device", 7)
        self.assert_ledgers(self.only(self.run_script(lines)), model)

    def test_calls_within_calls_count_once(self):
        lines = ["init", "context a 0", "nest", "pitch p 100 8", "nest", "free p", "nest", "pitch q 512 3",
                 "device d 99"]
        model = gpu.Model()
        model.alloc(0, "device", 512 * 8)
        model.free(0, "device", 512 * 8)
        model.alloc(0, "device", 512 * 3)
        model.alloc(0, "device", 99)
        report = self.run_script(lines)
        self.assert_nothing_lost(report)
        self.assert_ledgers(self.only(report), model)

    def test_threads(self):
        """Each frees what others get the next moment: addresses are used again at once."""
        for mode in ("survivors", "full"):
            with self.subTest(mode):
                report = self.run_script(["init", "threads 8 500 4096"], OLLAMATRACE_MODE=mode)
                self.assert_nothing_lost(report)
                (row,) = self.only(report)["gpu"]
                self.assertEqual((row["live_bytes"], row["live_blocks"], row["allocations"], row["frees"]),
                                 (8 * 4096, 8, 8 * 500, 8 * 499))
                self.assertTrue(8 * 4096 <= row["peak_bytes"] <= 16 * 4096, row)

    def test_young_pairs_are_folded(self):
        report = self.run_script(["init", "context a 0", "churn 20000 1024"])
        self.assert_nothing_lost(report)
        model = gpu.Model()
        for _ in range(20000):
            model.alloc(0, "pool", 1024)
            model.free(0, "pool", 1024)
        self.assert_ledgers(self.only(report), model)
        (trace,) = gpu.tracing.session_files(self.session, ".zst")
        self.assertLess(os.path.getsize(trace), 30000)

    def test_killed(self):
        model = gpu.Model()
        model.alloc(0, "device", 3000)
        model.alloc(0, "device", 5000)
        model.free(0, "device", 5000)
        process = self.only(self.run_script(["init", "context a 0", "device a 3000", "device b 5000", "free b", "kill"],
                                            status=-9))
        self.assertEqual(process["end"], "killed")
        for ledger in (model.ledgers, reported := gpu.reported(process)):
            ledger[(0, "device")].pop("peak_bytes")  # a lower bound: nobody was left to tell
        self.assertEqual(reported, model.ledgers)

    def test_killed_in_the_middle_of_a_call(self):
        # A free that had begun has happened; an allocation that had not returned has not.
        for call, live in (("free a", 5000), ("device c 7000", 8000), ("fail 2\ndevice c 7000", 8000)):
            with self.subTest(call):
                process = self.only(self.run_script(["init", "context a 0", "device a 3000", "device b 5000", "die", call],
                                                    status=-9))
                (row,) = process["gpu"]
                self.assertEqual((row["domain"], row["live_bytes"]), ("device", live))

    def test_page_locked_memory_counts_once(self):
        size = 3 << 20
        report = self.run_script(["init", "context a 0", f"pinned a {size}", f"pinned b {size}", "free-host b"])
        self.assert_nothing_lost(report)
        process = self.only(report)
        model = gpu.Model()
        model.alloc(0, "pinned", size)
        model.alloc(0, "pinned", size)
        model.free(0, "pinned", size)
        self.assert_ledgers(process, model)
        # The fake driver maps it by mmap, which the library sees, too.
        self.assertLess(process["memory"]["mapped"], size)
        self.assertFalse([g for g in report["groups"] if g["domain"] == "mapping" and g["live_bytes"] >= size])
        self.assertTrue([g for g in report["groups"] if g["domain"] == "pinned" and g["live_bytes"] == size])


if __name__ == "__main__":
    gpu.main()
