"""The tracers that are put in front of a program: ours and the distribution's, each with the variables that turn it on."""

import glob

from measure import Missing

HEAPTRACK_PRELOAD = ("/usr/lib/heaptrack/libheaptrack_preload.so", "/usr/lib/*/heaptrack/libheaptrack_preload.so")
JEMALLOC = ("/usr/lib/*/libjemalloc.so.2",)
TCMALLOC = ("/usr/lib/*/libtcmalloc.so.4",)

# What the columns of the table are, for its legend.
LEGEND = {
    "heaptrack": "libheaptrack_preload.so writes its raw record into a file (no interpreter runs beside it)",
    "jemalloc": "MALLOC_CONF=prof:true,lg_prof_sample:0 (every allocation), against jemalloc without prof",
    "gperftools": "libtcmalloc.so with HEAPPROFILE (every allocation), against tcmalloc without it",
}


def find(patterns, package):
    for pattern in patterns:
        found = sorted(glob.glob(pattern))
        if found:
            return found[0]
    raise Missing(f"{package} is not installed")


def untraced(_bench):
    return {}


def ours(bench, mode, folder="session", **settings):
    """`mode` is OLLAMATRACE_MODE's; the session is in the scratch folder, new for each run."""
    return {"LD_PRELOAD": bench.library, "OLLAMATRACE_DIR": bench.path(folder), "OLLAMATRACE_MODE": mode, **settings}


def heaptrack(bench):
    return {"LD_PRELOAD": find(HEAPTRACK_PRELOAD, "heaptrack"), "DUMP_HEAPTRACK_OUTPUT": bench.path("heaptrack.raw")}


def jemalloc_plain(_bench):
    return {"LD_PRELOAD": find(JEMALLOC, "libjemalloc2")}


def jemalloc_every(bench):
    return {**jemalloc_plain(bench), "MALLOC_CONF": "prof:true,lg_prof_sample:0"}


def jemalloc_sampling(bench):
    """Its default rate: 2^19 = 512 KiB."""
    return {**jemalloc_plain(bench), "MALLOC_CONF": "prof:true"}


def tcmalloc_plain(_bench):
    return {"LD_PRELOAD": find(TCMALLOC, "google-perftools (libtcmalloc)")}


def gperftools_every(bench):
    return {**tcmalloc_plain(bench), "HEAPPROFILE": bench.path("gperftools")}


def gperftools_sampling(bench):
    return {**tcmalloc_plain(bench), "TCMALLOC_SAMPLE_PARAMETER": "524288"}


def versions(bench):
    """The tracers' versions, in words."""
    answer = {}
    for name, package in (("heaptrack", "heaptrack"), ("jemalloc", "libjemalloc2"), ("gperftools", "libgoogle-perftools4"),
                          ("valgrind", "valgrind")):
        done = bench.command(["dpkg-query", "-W", "-f", "${Version}", package])
        answer[name] = done.stdout.strip() if done.status == 0 and done.stdout.strip() else "not installed"
    return answer
