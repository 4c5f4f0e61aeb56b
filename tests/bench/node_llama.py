"""node with node-llama-cpp: fetched by npm into the build folder, once."""

import fcntl
import os
import re
import shutil

import models
from measure import Missing
from workloads import Workload

PACKAGES = ("node-llama-cpp@3.22.1", "@node-llama-cpp/linux-x64@3.22.1")
LEAST_NODE = 20  # what node-llama-cpp asks for


def folder(bench):
    """The folder that holds node_modules; Missing, with the reason, where npm cannot make it."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise Missing(f"{program} is not installed")
    version = bench.checked(["node", "--version"]).stdout
    if int(re.match(r"v(\d+)", version)[1]) < LEAST_NODE:
        raise Missing(f"node is {version.strip()}, node-llama-cpp needs {LEAST_NODE} or newer")
    path = os.path.join(bench.build, "bench-node")
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(os.path.join(path, "complete")):
            # No other platform's binaries, and nothing that a package would run.
            done = bench.command(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional",
                                  "--omit=dev", *PACKAGES], cwd=path, timeout=300)
            if done.status != 0:
                reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise Missing(f"npm cannot fetch {PACKAGES[0]}: {reason[:200]}")
            with open(os.path.join(path, "complete"), "w", encoding="utf-8"):
                pass
    return path


def workload(bench):
    return Workload(["node", os.path.join(bench.folder, "complete.mjs"), folder(bench), models.tiny(bench)], 500_000)
