"""Whatever is wrong with CUPTI or the way to it: the target runs as without the library, and the trace says why."""

import os
import shutil

import gpu

SCRIPT = ["init", "context a 0", "device a 1000", "free a", "device b 2000"]


class BadCuptiTest(gpu.GpuTest):

    def captured(self, state, reason, where, settings):
        report = self.run_script(SCRIPT, **settings)
        process = self.only(report)
        capture = process["gpu_capture"]
        self.assertEqual(capture["state"], state, capture)
        self.assertIn(reason, capture["reason"])
        if where is not None:
            self.assertIn(where, capture["where"] or "")
        words = "is partial" if state == "partial" else "unavailable"
        self.assertTrue([note for note in report["coverage"]["notes"]
                         if f"GPU capture {words}: {capture['reason']}" in note], report["coverage"]["notes"])
        text = gpu.tracing.leakview("report", self.session).stdout
        self.assertIn(f"GPU capture {words}: ", text)
        self.assert_nothing_lost(report)
        return process

    def assert_unavailable(self, reason, where=None, **settings):
        process = self.captured("unavailable", reason, where, settings)
        self.assertEqual(process["gpu"], [])
        return process["gpu_capture"]

    def assert_partial(self, reason, where=None, **settings):
        """Without CUPTI, what the program calls by name is seen."""
        process = self.captured("partial", reason, where, settings)
        self.assertTrue(process["gpu_capture"]["reason"].startswith("cuBLAS and NCCL not seen"))
        model = gpu.Model()
        model.alloc(0, "device", 1000)
        model.free(0, "device", 1000)
        model.alloc(0, "device", 2000)
        self.assert_ledgers(process, model)
        return process["gpu_capture"]

    def test_no_cupti(self):
        capture = self.assert_partial("no libcupti was found", "/usr/local/cuda/extras/CUPTI/lib64/", cupti=None,
                                          CUDA_HOME="/nowhere/cuda", FAKE_DRIVER="12040")
        self.assertIn("/nowhere/cuda/extras/CUPTI/lib64/", capture["where"])

    def test_named_cupti_is_not_there(self):
        self.assert_partial("no libcupti was found", "/nowhere/libcupti.so.13: cannot open",
                            cupti="/nowhere/libcupti.so.13")

    def test_no_library_at_all(self):
        path = os.path.join(self.folder(), "libcupti.so.13")
        with open(path, "w", encoding="ascii") as file:
            file.write("this is no library\n")
        self.assert_partial("no libcupti was found", path, cupti=path)

    def test_another_library(self):
        path = shutil.copy(os.path.join(gpu.DIR, "driver", "libcuda.so.1"),
                           os.path.join(self.folder(), "libcupti.so.13"))
        self.assert_partial("what was loaded has no cuptiGetVersion: no libcupti", path, cupti=path)

    def test_missing_symbol(self):
        path = os.path.join(gpu.DIR, "without_subscribe", os.path.basename(gpu.CUPTI))
        self.assert_partial("what was loaded has no cuptiSubscribe", path, cupti=path)

    def test_too_old(self):
        self.assert_partial("too old (API version 12)", gpu.CUPTI, FAKE_CUPTI="old")

    def test_other_names(self):
        self.assert_partial("this libcupti calls cuMemFrob what is cuMemFree_v2 here", gpu.CUPTI,
                                FAKE_CUPTI="renamed")

    def test_second_subscriber(self):
        self.assert_partial("CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED (39): another tool", gpu.CUPTI,
                                FAKE_CUPTI="taken")

    def test_no_driver(self):
        self.assert_partial("cuptiSubscribe failed: CUPTI_ERROR_UNKNOWN (999)", FAKE_CUPTI="no-driver")

    def test_callback_cannot_be_enabled(self):
        self.assert_partial("cuptiEnableCallback failed", FAKE_CUPTI="no-enable")

    def test_switched_off(self):
        self.assert_unavailable("OLLAMATRACE_CUPTI=off", cupti="off")

    def test_bad_setting(self):
        report = self.run_script(SCRIPT, cupti="libcupti.so.13", CUDA_HOME="/nowhere")
        self.assertTrue([note for note in report["coverage"]["notes"]
                         if "OLLAMATRACE_CUPTI=libcupti.so.13 is ignored" in note], report["coverage"]["notes"])

    def test_somebody_elses_injection(self):
        self.assert_partial("CUDA_INJECTION64_PATH names another library", "/nowhere/libnsys.so",
                                CUDA_INJECTION64_PATH="/nowhere/libnsys.so")

    def test_unloadable_injection(self):
        """The library is there, and neither the driver nor anybody can load it."""
        folder = self.folder()
        library = shutil.copy(gpu.tracing.LIB, os.path.join(folder, "libollamatrace.so"))
        with open(os.path.join(folder, "libollamatrace-cupti.so"), "w", encoding="ascii") as file:
            file.write("cut short")
        self.assert_unavailable("its library cannot be loaded", folder + "/libollamatrace-cupti.so: file too short",
                                library=library)

    def test_driver_that_loads_no_injection(self):
        """As one that was told not to, or that is too old to know of it."""
        self.assert_partial("the CUDA driver has not loaded the library", FAKE_CUDA="no-injection")

    def test_library_copied_alone(self):
        library = shutil.copy(gpu.tracing.LIB, os.path.join(self.folder(), "libollamatrace.so"))
        self.assert_unavailable("its library is not there", "libollamatrace-cupti.so", library=library)

    def test_injection_without_the_library(self):
        """The variable is inherited by a process that is not traced."""
        script = os.path.join(self.folder(), "script")
        with open(script, "w", encoding="ascii") as file:
            file.write("\n".join(SCRIPT))
        done = gpu.tracing.run([os.path.join(gpu.DIR, "gpu_script"), script],
                               gpu.tracing.plain_environment(CUDA_INJECTION64_PATH=gpu.CAPTURE,
                                                             OLLAMATRACE_CUPTI=gpu.CUPTI))
        self.assertEqual((done.status, done.stdout, done.stderr), (0, b"done\n", b""))

    def test_fork_after_cuda_has_started(self):
        report = self.run_script(["init", "context a 0", "device a 1000", "fork", "device b 2000"])
        self.assert_nothing_lost(report)
        parent, child = sorted(report["processes"], key=lambda p: p["start"])
        self.assert_active(parent)
        model = gpu.Model()
        model.alloc(0, "device", 1000)
        model.alloc(0, "device", 2000)
        self.assert_ledgers(parent, model)
        self.assertEqual(child["gpu"], [])
        self.assertEqual(child["gpu_capture"]["state"], "unavailable")
        self.assertIn("forked after CUDA had started", child["gpu_capture"]["reason"])

    def test_process_without_cuda_says_nothing(self):
        session = os.path.join(self.folder(), "session")
        gpu.tracing.run(["true"], gpu.tracing.traced_environment(session))
        report = gpu.tracing.report(session)
        process = self.only(report)
        self.assertEqual((process["gpu"], process["gpu_capture"]["driver_loaded"]), ([], False))
        self.assertFalse([note for note in report["coverage"]["notes"] if "GPU" in note])


if __name__ == "__main__":
    gpu.main()
