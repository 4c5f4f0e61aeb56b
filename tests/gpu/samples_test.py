"""NVML's figures beside the traced ones: the residual and its slope, without a leak called by that name."""

import gpu

GIB = 1 << 30


class SamplesTest(gpu.GpuTest):

    def devices(self, lines, **settings):
        report = self.run_script(lines, OLLAMATRACE_SAMPLE_MS="5", LD_LIBRARY_PATH=gpu.os.path.join(gpu.DIR, "driver"),
                                 **settings)
        self.assert_nothing_lost(report)
        return self.only(report)["gpu_devices"]

    def test_residual(self):
        (device,) = self.devices(["init", "context a 2", f"device d {GIB}", f"pool p {GIB}", f"managed m {GIB}",
                                  f"pinned h {1 << 20}", "looks 3"], FAKE_NVML=f"{4 * GIB}:0")
        self.assertEqual((device["device"], device["total_bytes"], device["used_bytes"], device["process_bytes"]),
                         (2, 80 * GIB, 5 * GIB, 4 * GIB))
        # Managed memory may be anywhere, page-locked memory is the host's.
        self.assertEqual((device["traced_bytes"], device["residual"]["last"]), (2 * GIB, 2 * GIB))
        self.assertEqual(device["residual"]["stages"], [{"stage": "context", "count": 1, "bytes": 2 * GIB}])
        text = gpu.tracing.leakview("report", self.session).stdout
        self.assertIn("GPU 2 by NVML: 5.0 GiB of 80.0 GiB in use, 4.0 GiB by this process, 2.0 GiB of it traced", text)

    def test_residual_that_grows(self):
        (device,) = self.devices(["init", "context a 0", f"device d {GIB}", "looks 30"], FAKE_NVML=f"{2 * GIB}:1048576")
        residual = device["residual"]
        self.assertGreaterEqual(device["samples"], 30)
        self.assertGreaterEqual(residual["last"] - residual["first"], 28 << 20)
        self.assertGreater(residual["bytes_per_hour"], 1 << 20)

    def test_what_the_residual_came_with(self):
        """Each change of the process's bytes beside the one thing that happened then, and one beside nothing."""
        pause = "looks 4"
        (device,) = self.devices(
            ["init", "context a 0", pause, "uses 300000000", pause, "cublas w 1000000", "uses 340000000", pause,
             "module m 5000000", "uses 350000000", pause, "exec g", "uses 352000000", pause, pause, "uses 353000000", pause,
             "context b 0", "uses 653000000", pause], FAKE_NVML="200000000:0")
        residual = device["residual"]
        self.assertEqual(device["module_bytes"], 5000000)
        self.assertEqual((residual["first"], residual["last"]), (200000000, 652000000))
        self.assertEqual({s["stage"]: (s["count"], s["bytes"]) for s in residual["stages"]}, {
            "context": (2, 500000000), "library": (1, 39000000), "modules": (1, 10000000), "graphs": (1, 2000000),
            "other": (0, 101000000)})
        text = gpu.tracing.leakview("report", self.session).stdout
        self.assertIn("not traced (no leak by itself): 621.8 MiB, at first 190.7 MiB", text)
        self.assertIn("came: 476.8 MiB with contexts, 37.2 MiB at the first use of libraries, 9.5 MiB with 1 module of code, "
                      "1.9 MiB with executable graphs, 96.3 MiB with nothing that was seen", text)

    def test_unknown_process(self):
        (device,) = self.devices(["init", "context a 0", "device d 1000", "looks 2"], FAKE_NVML=f"{GIB}:0",
                                 FAKE_NVML_PID="other")
        self.assertEqual((device["process_bytes"], device["used_bytes"]), (None, 2 * GIB))
        self.assertIsNone(device["residual"])
        text = gpu.tracing.leakview("report", self.session).stdout
        self.assertIn("how much of it by this process is not known", text)

    def test_no_nvml(self):
        self.assertEqual(self.devices(["init", "context a 0", "device d 1000"]), [])

    def test_allocation_that_fails_while_enough_is_free(self):
        report = self.run_script(["init", "context a 0", "looks 1", "fail 2", f"device d {GIB}"], FAKE_NVML=f"{GIB}:0",
                                 OLLAMATRACE_SAMPLE_MS="5", LD_LIBRARY_PATH=gpu.os.path.join(gpu.DIR, "driver"))
        (failure,) = self.only(report)["gpu_capture"]["failures"]
        self.assertEqual(failure["free_bytes"], 78 * GIB)
        text = gpu.tracing.leakview("report", self.session).stdout
        self.assertIn("CUDA error 2, 78.0 GiB were free", text)

    def test_rounding(self):
        report = self.run_script(["init", "context a 0", f"device a {(2 << 20) + 1}", f"device b {4 << 20}", "device c 1000"])
        (row,) = self.only(report)["gpu"]
        self.assertEqual(row["rounding_bytes"], (2 << 20) - 1 + (2 << 20) - 1000)


if __name__ == "__main__":
    gpu.main()
