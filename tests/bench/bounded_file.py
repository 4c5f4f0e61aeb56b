#!/usr/bin/env python3
"""P9 over time: what a trace, its journal and the tracer's memory come to while pairs go by, as a Markdown table.

    tests/bench/bounded_file.py --build=build/release [--pairs=1000000000] [--threads=2] [--survive=10000] \
                                [--max-bytes=256M] [--samples=10]

`pairs` are each thread's. The untraced program runs first, a hundredth as long: its memory, and what each survivor adds
to it, are taken off. Takes about 0.1 microseconds a pair.
"""

import argparse
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

SURVIVOR_BYTES = 80  # what glibc takes for a block of 64 bytes


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sizes(folder, pattern):
    """Bytes on the disk, and how many files."""
    files = [os.stat(path) for path in glob.glob(os.path.join(glob.escape(folder), pattern))]
    return sum(info.st_blocks * 512 for info in files), len(files)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--pairs", type=int, default=1_000_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--survive", type=int, default=10_000)
    parser.add_argument("--max-bytes", default="256M")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--mode", default="survivors")
    options = parser.parse_args()
    build = os.path.abspath(options.build)
    folder = tempfile.mkdtemp(prefix="bounded-", dir=build)
    program = os.path.join(build, "bin", "bench_churn")

    def command(pairs):
        return [program, f"--threads={options.threads}", f"--pairs={pairs}", f"--survive={options.survive}"]

    # How far it is cannot be asked, so time is taken: the pace is that of the CPU time used.
    short = options.pairs // 100
    plain = subprocess.Popen(command(short), stdout=subprocess.DEVNULL)
    base = 0
    while plain.poll() is None:
        base = max(base, resident(plain.pid))
        time.sleep(0.01)
    base -= short * options.threads // options.survive * SURVIVOR_BYTES

    environment = dict(os.environ, LD_PRELOAD=os.path.join(build, "lib", "libollamatrace.so"), OLLAMATRACE_DIR=folder,
                       OLLAMATRACE_MODE=options.mode, OLLAMATRACE_MAX_BYTES=options.max_bytes)
    begin = time.monotonic()
    traced = subprocess.Popen(command(options.pairs), env=environment, stdout=subprocess.DEVNULL)
    rows, most = [], 0
    while traced.poll() is None:
        try:
            trace, files = sizes(folder, "*.[zt]*")
            rows.append((time.monotonic() - begin, cpu_seconds(traced.pid), trace, files, sizes(folder, "*.journal")[0],
                         resident(traced.pid)))
        except (OSError, IndexError):
            break
        most = max(most, trace)
        time.sleep(0.2)
    seconds = time.monotonic() - begin
    final, files = sizes(folder, "*.zst")
    if traced.returncode != 0:
        sys.exit(f"the program ended with status {traced.returncode}")

    pairs_of = lambda cpu: options.pairs * options.threads * min(1, cpu / rows[-1][1])
    print(f"{options.threads} threads, {options.pairs * options.threads:,} pairs, one in {options.survive:,} survives, mode "
          f"{options.mode}, OLLAMATRACE_MAX_BYTES={options.max_bytes}: {seconds:.0f} s\n")
    print("| pairs (by CPU time) | trace, MB | files | journal, MB | resident beyond the program's own, MB |")
    print("|---|---|---|---|---|")
    for number in range(1, options.samples + 1):
        # The last look that is no later.
        wanted = rows[-1][1] * number / options.samples
        _, cpu, trace, count, journal, rss = [row for row in rows if row[1] <= wanted][-1]
        own = base + pairs_of(cpu) / options.survive * SURVIVOR_BYTES
        print(f"| {pairs_of(cpu) / 1e6:,.0f} M | {trace / 1e6:.2f} | {count} | {journal / 1e6:.1f} | {(rss - own) / 1e6:.1f} |")
    print(f"| {options.pairs * options.threads / 1e6:,.0f} M, ended | {final / 1e6:.2f} | {files} | | |")
    print(f"\nmost bytes of all files at a time: {max(most, final) / 1e6:.2f} MB")
    report = subprocess.run([os.path.join(build, "bin", "ollama-leakview"), "report", "--format=json", "--top=1", folder],
                            stdout=subprocess.PIPE, check=True)
    host = json.loads(report.stdout)["processes"][0]["host"]
    survivors = options.threads * (options.pairs // options.survive)
    print(f"the report: {host['allocations']:,} allocations, {host['live_blocks']:,} blocks live (survivors: {survivors:,})")
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
