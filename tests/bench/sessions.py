"""What a traced run has recorded: no figure comes from a run that recorded less than its mode promises."""

import collections
import glob
import json
import os
import re

from measure import Failed


def read_session(bench, folder):
    """The analyzer's report of a session, as JSON."""
    report = bench.checked([bench.leakview, "report", "--format=json", "--top=1", folder])
    try:
        return json.loads(report.stdout)
    except ValueError as error:
        raise Failed(f"the analyzer's report cannot be read: {error}") from None


def check_session(bench, folder, mode, allocations):
    """What the library wrote is what the mode promises: Failed unless the session is of `mode`, has at least `allocations`
    in all (full and survivors), and nothing was lost and no stack cut. No figure comes from a run that recorded less.
    """
    report = read_session(bench, folder)
    modes = sorted({process["mode"] for process in report["processes"]})
    if modes != [mode]:
        raise Failed(f"not recorded in mode {mode} but in {', '.join(modes) or 'none'}")
    counted = sum(process["host"]["allocations"] for process in report["processes"])
    if counted < allocations:
        raise Failed(f"the trace has {counted:,} of {allocations:,} allocations")
    if report["coverage"]["lost_events"] or report["coverage"]["losses"]:
        raise Failed(f"not all was recorded: {report['coverage']['losses']}")
    return counted


def folded_stacks(bench, folder):
    """{frames of a stack: how many stacks have so many}, of the stacks with pairs that died young."""
    parents, stacks = {}, set()
    for path in glob.glob(os.path.join(glob.escape(folder), "*.zst")):
        for line in bench.checked([bench.program("ollamatrace-dump"), path]).stdout.splitlines():
            node = re.match(r"node id=(\d+) parent=(\d+)", line)
            counters = re.match(r"counters stack=(\d+)", line)
            if node:
                parents[int(node[1])] = int(node[2])
            elif counters:
                stacks.add(int(counters[1]))
    depths = collections.Counter()
    for stack in stacks:
        depth = 0
        while stack:
            depth, stack = depth + 1, parents[stack]
        depths[depth] += 1
    return depths
