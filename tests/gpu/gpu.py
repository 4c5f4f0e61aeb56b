"""What the GPU tests share: run a script against the fake driver, and the ledgers as they must be."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "integration"))
import tracing  # noqa: E402: found by the line above

DIR = os.environ.get("OLLAMATRACE_GPU_DIR", os.path.join(tracing.BUILD, "tests", "gpu"))
MAJOR = os.environ.get("OLLAMATRACE_CUDA_MAJOR", "13")
CUPTI = os.path.join(DIR, "cupti", f"libcupti.so.{MAJOR}")
CAPTURE = os.path.join(os.path.dirname(tracing.LIB), "libollamatrace-cupti.so")
# No memory of their own.
REFERRING = {"graph", "address-space", "mapped", "registered", "graph-exec", "imported"}


class Model:
    """The ledgers, told what happened: by (device, domain) what is live, and what ever was."""

    def __init__(self):
        self.ledgers = {}

    def _ledger(self, device, domain):
        return self.ledgers.setdefault((device, domain), {
            "live_bytes": 0, "live_blocks": 0, "peak_bytes": 0, "allocations": 0, "frees": 0, "implicit_blocks": 0,
            "implicit_bytes": 0})

    def alloc(self, device, domain, size, blocks=1):
        ledger = self._ledger(device, domain)
        ledger["live_bytes"] += size * blocks
        ledger["live_blocks"] += blocks
        ledger["allocations"] += blocks
        ledger["peak_bytes"] = max(ledger["peak_bytes"], ledger["live_bytes"])

    def free(self, device, domain, size, blocks=1, implicit=False):
        ledger = self._ledger(device, domain)
        ledger["live_bytes"] -= size * blocks
        ledger["live_blocks"] -= blocks
        if implicit:
            ledger["implicit_blocks"] += blocks
            ledger["implicit_bytes"] += size * blocks
        else:
            ledger["frees"] += blocks


def reported(process):
    """The ledgers of a report's process in the model's words."""
    ledgers = {}
    for row in process["gpu"]:
        implicit = row["implicitly_freed"]
        ledgers[(row["device"], row["domain"])] = {
            **{key: row[key] for key in ("live_bytes", "live_blocks", "peak_bytes", "allocations", "frees")},
            "implicit_blocks": implicit["blocks"], "implicit_bytes": implicit["bytes"]}
        assert row["memory"] == (row["domain"] not in REFERRING), row
    return ledgers


class GpuTest(tracing.TestCase):
    def run_script(self, lines, status=0, cupti=CUPTI, library=tracing.LIB, **settings):
        """Runs gpu_script on these lines under the library; its output and the session's report."""
        folder = self.folder()
        path = os.path.join(folder, "script")
        with open(path, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
        command = [os.path.join(DIR, "gpu_script"), path]
        plain = tracing.run(command)
        session = os.path.join(folder, "session")
        if cupti is not None:
            settings["OLLAMATRACE_CUPTI"] = cupti
        traced = tracing.run(command, tracing.plain_environment(LD_PRELOAD=library, OLLAMATRACE_DIR=session,
                                                                **settings))
        self.assertEqual(traced.status, status, traced)
        self.assertEqual(traced, plain)
        self.session = session
        return tracing.report(session)

    def only(self, report):
        self.assertEqual(len(report["processes"]), 1, [p["exe"] for p in report["processes"]])
        return report["processes"][0]

    def assert_ledgers(self, process, model):
        self.assertEqual(reported(process), model.ledgers)

    def assert_active(self, process, cupti=CUPTI):
        capture = process["gpu_capture"]
        self.assertEqual((capture["state"], capture["reason"], capture["where"]), ("active", None, cupti))


main = tracing.main
