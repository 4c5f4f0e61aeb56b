"""The unwinder against libunwind's unw_step, frame for frame, inside other people's programs.

The programs run under libollamatrace_differential.so (checker.cc). Each stack that was recorded must be the one that
libunwind finds, or differ from it for a reason that is known: the classes below. And each must be the one that a walk
finds that remembers nothing, whether it was walked or recognised by its fingerprint. Prints a table. By hand, for longer:

    tests/differential/differential_test.py --stacks 1000000 --build build/release
    tests/differential/differential_test.py --stacks 100000 --programs "node;redis" --build build/release
"""

import argparse
import glob
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
INTEGRATION = os.path.join(os.path.dirname(HERE), "integration")
SKIPPED = 77
SECONDS = 300  # for one run of one program
MOST_RUNS = 500

# In the order of counters.h.
CLASSES = ("go", "jit", "no CFI", "debug_frame", "gave up", "not code", "not started", "marks", "unexplained")
COUNTERS = ("stacks", "frames", "by fingerprint", "remembered wrongly", "equal") + CLASSES


class Skip(Exception):
    """A program that is not there."""


def need(name):
    path = shutil.which(name)
    if path is None:
        raise Skip(f"{name} is not installed")
    return path


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


class Bench:
    """Runs commands under the checker in a scratch folder, and adds up what it counts."""

    def __init__(self, library, folder, every):
        self.library = library
        self.folder = folder
        self.every = every
        self.left = 0  # stacks still wanted

    def environment(self, out, **settings):
        environment = {name: value for name, value in os.environ.items()
                       if name != "LD_PRELOAD" and not name.startswith(("OLLAMATRACE_", "DIFFERENTIAL_"))}
        environment.update(settings)
        environment.update(LD_PRELOAD=self.library, OLLAMATRACE_DIR=out, OLLAMATRACE_SAMPLE_MS="0", DIFFERENTIAL_DIR=out,
                           DIFFERENTIAL_EVERY=str(self.every), DIFFERENTIAL_MOST=str(max(1, self.left)))
        return environment

    def run(self, argv, stdin=None, drive=None, status=0, **settings):
        """One run. `drive` is called with the Popen while it runs. Answers the counters and the differences' text."""
        out = tempfile.mkdtemp(dir=self.folder)
        with open(os.path.join(out, "output"), "w+b") as output:
            process = subprocess.Popen(argv, cwd=self.folder, env=self.environment(out, **settings),
                                       stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                                       stdout=output, stderr=subprocess.STDOUT)
            try:
                if drive is not None:
                    drive(process)
                process.communicate(stdin.encode() if stdin is not None else None, timeout=SECONDS)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            output.seek(0)
            said = output.read().decode(errors="replace")
        if process.returncode != status:
            raise AssertionError(f"{argv[0]} ended with {process.returncode}: {said[-2000:]}")
        counters = [0] * len(COUNTERS)
        for path in glob.glob(os.path.join(glob.escape(out), "*.counters")):
            with open(path, "rb") as file:
                words = struct.unpack(f"<{len(COUNTERS)}Q", file.read())
            counters = [a + b for a, b in zip(counters, words)]
        text = ""
        for path in glob.glob(os.path.join(glob.escape(out), "*.differences")):
            with open(path, encoding="utf-8", errors="replace") as file:
                text += file.read()
        shutil.rmtree(out, ignore_errors=True)
        return counters, text


# ---- The programs. Each prepares what it needs once and answers a function that runs it once.

PYTHON = r"""
import json, random, re, sqlite3, threading, zlib, xml.etree.ElementTree as tree

def nest(n):
    return [nest(n - 1)] * 2 + [n * 1.5] if n else {"a": "text", "b": None}

def work(seed):
    generator = random.Random(seed)
    for _ in range(12):
        json.loads(json.dumps(nest(7), indent=1))
        sorted([str(generator.random()) for _ in range(300)], key=lambda text: text[::-1])
        re.sub(r"(\w+) (\d+)", lambda match: match.group(2) + match.group(1), "word 12 other 345 " * 50)
        root = tree.fromstring("<a>" + "<b c='d'>e</b>" * 60 + "</a>")
        tree.tostring(root)
        zlib.decompress(zlib.compress(bytes(range(256)) * 40))
    base = sqlite3.connect(":memory:")
    base.execute("create table t (a integer primary key, b text)")
    base.create_function("twice", 1, lambda value: value * 2)
    base.executemany("insert into t values (?, ?)", [(i, str(i) * 5) for i in range(400)])
    base.execute("select twice(a), upper(b) from t where b like '%7%' order by b desc").fetchall()
    try:
        json.loads("{" * 50)
    except ValueError:
        pass

threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def python(bench):
    script = write(bench.folder, "work.py", PYTHON)
    return lambda: bench.run([os.path.realpath(sys.executable), script], PYTHONMALLOC="malloc")


def cc1plus(bench):
    compiler = need("g++")
    path = subprocess.run([compiler, "-print-prog-name=cc1plus"], capture_output=True, text=True, check=True).stdout.strip()
    if not os.access(path, os.X_OK):
        raise Skip("cc1plus is not there")
    source = write(bench.folder, "regex.cc", "#include <regex>\n#include <map>\nint main(int n, char** a) {\n"
                   "  std::map<std::string, int> m;\n  for (int i = 0; i < n; ++i) m[a[i]] += 1;\n"
                   "  return std::regex_match(a[0], std::regex(\"(a|b)*c\")) + m.size();\n}\n")
    whole = os.path.join(bench.folder, "regex.ii")
    subprocess.run([compiler, "-std=c++17", "-E", source, "-o", whole], check=True, stdin=subprocess.DEVNULL)
    return lambda: bench.run([path, "-quiet", "-O2", "-g", "-std=c++17", whole, "-o", os.path.join(bench.folder, "regex.s")])


NODE = r"""
const zlib = require('zlib'), crypto = require('crypto'), fs = require('fs');
function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
async function step(i) {
  const text = JSON.stringify({ i, list: Array.from({ length: 200 }, (_, k) => ({ k, s: 'x'.repeat(k % 50) })) });
  const packed = await new Promise((ok, no) => zlib.deflate(text, (e, r) => e ? no(e) : ok(r)));
  JSON.parse(zlib.inflateSync(packed).toString());
  crypto.createHash('sha256').update(text).digest('hex');
  text.replace(/"k":(\d+)/g, (_, d) => d);
  await fs.promises.readFile(__filename);
  new Function('a', 'return a * ' + i)(3);
  return fib(15);
}
(async () => { for (let i = 0; i < 300; i++) await step(i); })();
"""


def node(bench):
    program = need("node")
    script = write(bench.folder, "work.js", NODE)
    return lambda: bench.run([program, script])


PERL = r"""
use strict; use warnings; use List::Util qw(sum); use Data::Dumper; $Data::Dumper::Sortkeys = 1;
sub nest { my $n = shift; return $n ? { list => [nest($n - 1), nest($n - 1)], n => $n } : "leaf"; }
my %seen;
for my $round (1 .. 60) {
  my $text = Dumper(nest(6));
  $seen{$1}++ while $text =~ /(\w+)/g;
  my @sorted = sort { $seen{$a} <=> $seen{$b} || $a cmp $b } keys %seen;
  my $code = eval "sub { my \$x = shift; return \$x * $round }" or die $@;
  eval { die { code => $code->(2) } };
  my @words = map { sprintf "%s-%05d", $_, length } split /\s+/, $text;
  local $_ = join ",", grep { /a/ } @words;
  s/(\d+)/<$1>/g;
}
"""


def perl(bench):
    program = need("perl")
    script = write(bench.folder, "work.pl", PERL)
    return lambda: bench.run([program, script])


def git(bench):
    program = need("git")
    repository = os.path.join(bench.folder, "repository")
    identity = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
                for what, value in (("NAME", "a"), ("EMAIL", "a@example.com"), ("DATE", "2026-01-01T00:00:00Z"))}
    identity.update(GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null")
    os.mkdir(repository)
    environment = dict(os.environ, **identity)

    def plain(*arguments):
        subprocess.run([program, "-C", repository, *arguments], check=True, env=environment,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    plain("init", "-q")
    for commit in range(30):
        for number in range(12):
            write(repository, f"file{number}", "\n".join(str(line * (commit + number) % 97) for line in range(300)))
        plain("add", "-A")
        plain("commit", "-q", "-m", f"commit {commit}")
    commands = [["log", "-p", "--stat"], ["blame", "file3"], ["grep", "-n", "4[0-9]"], ["diff", "HEAD~20", "--word-diff"],
                ["log", "--graph", "--oneline", "--decorate"], ["status"], ["fsck"], ["repack", "-a", "-d", "-q"],
                ["rev-list", "--all", "--objects"]]
    state = {"next": 0}

    def once():
        arguments = commands[state["next"] % len(commands)]
        state["next"] += 1
        return bench.run([program, "--no-pager", "-C", repository, *arguments], **identity)
    return once


def gdb(bench):
    program = need("gdb")
    source = write(bench.folder, "debugged.cc", "#include <map>\n#include <string>\nint f(int n) { return n ? f(n - 1) + 1 : 0; }\n"
                   "int main() { std::map<std::string, int> m; m[\"a\"] = f(30); return m[\"b\"]; }\n")
    target = os.path.join(bench.folder, "debugged")
    subprocess.run([need("g++"), "-g", "-O0", source, "-o", target], check=True, stdin=subprocess.DEVNULL)
    commands = ["set pagination off", "info functions std::map", "info types string", "ptype main", "disassemble main",
                "info line f", "list f", "info scope main", "python print(sum(len(str(i)) for i in range(2000)))",
                "python print(gdb.lookup_type('int').pointer())"]
    argv = [program, "-nx", "-batch"]
    for command in commands:
        argv += ["-ex", command]
    return lambda: bench.run([*argv, target])


SQL = """
create table t (a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000)
  insert into t select i, printf('%d-%s', i, hex(randomblob(20))), i / 7.0 from n;
create index u on t (b);
create trigger g after update on t begin insert into t (b, c) values (new.b || 'x', 1); end;
update t set b = b || '!' where a % 50 = 0;
select count(*), group_concat(b) from t where b like '%7A%' group by length(b) order by 1;
select json_group_array(json_object('a', a, 'b', b)) from t where a < 500;
select sum(c) over (order by a rows 5 preceding) from t limit 200;
delete from t where a in (select a from t where c > 100);
vacuum;
drop table t;
"""


def sqlite3(bench):
    program = need("sqlite3")
    return lambda: bench.run([program, ":memory:"], stdin=SQL * 4)


def redis(bench):
    program = need("redis-server")

    def once():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]

        def drive(process):
            deadline = time.monotonic() + 60
            while True:
                try:
                    connection = socket.create_connection(("127.0.0.1", port), 60)
                    break
                except OSError:
                    if time.monotonic() > deadline or process.poll() is not None:
                        raise
                    time.sleep(0.02)
            lines = []
            for i in range(3000):
                lines += [f"SET k{i} {'v' * (i % 300)}", f"LPUSH list {i}", f"HSET h{i % 50} f{i} {i}",
                          f"ZADD z {i} m{i}", f"GET k{i // 2}", f"SADD s{i % 9} {i}", f"APPEND a{i % 20} {'t' * (i % 40)}"]
                if i % 200 == 0:
                    lines += ["EVAL \"local t={} for i=1,50 do t[i]=tostring(i)..ARGV[1] end return #t\" 0 x",
                              "SORT list LIMIT 0 10", "KEYS k1*", "DEBUG SLEEP 0", "SUNION s1 s2 s3", "MULTI", "INCR n", "EXEC"]
            with connection:
                connection.sendall("\r\n".join(lines).encode() + b"\r\n")
                connection.settimeout(60)
                connection.sendall(b"BGSAVE\r\nSHUTDOWN NOSAVE\r\n")
                while connection.recv(1 << 16):
                    pass
        return bench.run([program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no",
                          "--dir", bench.folder, "--lazyfree-lazy-server-del", "yes"], drive=drive)
    return once


def compressors(bench):
    xz, zstd = need("xz"), need("zstd")
    data = os.path.join(bench.folder, "data")
    with open(data, "wb") as file:
        for i in range(40000):
            file.write(b"%d some text that repeats %d\n" % (i * 7919 % 10007, i))
    commands = [[xz, "-T2", "-1", "--block-size=16KiB", "-k", "-f", data], [xz, "-T2", "-d", "-k", "-f", data + ".xz"],
                [zstd, "-q", "-T2", "-B512KB", "-3", "-f", data], [zstd, "-q", "-d", "-f", data + ".zst"],
                [zstd, "-q", "-b1", "-e3", "-i0", data]]
    state = {"next": 0}

    def once():
        argv = commands[state["next"] % len(commands)]
        state["next"] += 1
        return bench.run(argv)
    return once


def llama(bench):
    sys.path.insert(0, INTEGRATION)
    import llama_server  # pylint: disable=import-outside-toplevel
    import tracing  # pylint: disable=import-outside-toplevel
    python_of_wheel = llama_server.wheel_python()
    if python_of_wheel is None:
        raise Skip("the xllamacpp wheel cannot be had")
    model = os.path.join(bench.folder, "tiny.gguf")
    subprocess.run([sys.executable, tracing.TINY_MODEL, model], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return lambda: bench.run([python_of_wheel, llama_server.MAIN, model, "--ask", "30"])


def go(bench):
    program = shutil.which("go") or "/usr/local/go/bin/go"
    if not os.access(program, os.X_OK):
        raise Skip("go is not installed")
    target = os.path.join(bench.folder, "go_stacks")
    built = subprocess.run([program, "build", "-o", target, os.path.join(INTEGRATION, "go_stacks.go")], cwd=bench.folder,
                           env=dict(os.environ, CGO_ENABLED="1", GO111MODULE="off", GOTOOLCHAIN="local", GOFLAGS="",
                                    GOCACHE=os.path.join(bench.build, "go-cache"), GOPATH=os.path.join(bench.folder, "go")),
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if built.returncode != 0:
        raise Skip("go cannot build a cgo program: " + built.stdout.decode(errors="replace")[-300:])
    return lambda: bench.run([target], GO_STACKS_ROUNDS="5000")


BASH = r"""
declare -A seen
nest() { local n=$1; if ((n)); then echo "$(nest $((n - 1))) $n"; else echo leaf; fi; }
trap 'seen[trapped]=1' USR1
for i in {1..400}; do
  text="word$i ${RANDOM}"
  seen[${text%% *}]=$i
  [[ $text =~ ([a-z]+)([0-9]+) ]] && other=${BASH_REMATCH[2]}
  list=(${seen[@]})
  printf -v line '%s:%05d' "$text" "$other"
  case $line in *7*) line=${line//7/seven} ;; esac
  ((i % 100)) || { kill -USR1 $$; nest 4 > /dev/null; }
  eval "f$i() { local a=\$1; echo \$((a * $i)); }"; f$i 3 > /dev/null
  while read -r a b; do :; done <<< "$line"
done
"""


def bash(bench):
    program = need("bash")
    script = write(bench.folder, "work.sh", BASH)
    return lambda: bench.run([program, script])


def interrupted(bench):
    """One of this project's own: a handler that allocates interrupts it at any instruction."""
    program = os.path.join(bench.build, "bin", "differential_interrupted")
    if not os.access(program, os.X_OK):
        raise Skip(f"{program} is not built")
    return lambda: bench.run([program, str(bench.left)])


# Each so-many-th allocation is compared, so that a share of the stacks covers what a program does.
PROGRAMS = {
    "python": (python, 7), "cc1plus": (cc1plus, 11), "node": (node, 5), "perl": (perl, 7), "git": (git, 3), "gdb": (gdb, 11),
    "sqlite3": (sqlite3, 3), "redis": (redis, 3), "xz, zstd": (compressors, 1), "llama-server": (llama, 5), "go": (go, 1),
    "bash": (bash, 1), "interrupted": (interrupted, 1)}


def measure(name, arguments, wanted):
    """The counters of one program, after as many runs as it takes; raises Skip."""
    prepare, every = PROGRAMS[name]
    with tempfile.TemporaryDirectory(prefix="differential-") as folder:
        bench = Bench(os.path.join(arguments.build, "lib", "libollamatrace_differential.so"), folder, every)
        bench.build = arguments.build
        once = prepare(bench)
        total, text = [0] * len(COUNTERS), ""
        for _ in range(MOST_RUNS):
            bench.left = wanted - total[0]
            counters, differences = once()
            total = [a + b for a, b in zip(total, counters)]
            text += differences
            if total[0] >= wanted:
                break
    return total, text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stacks", type=int, default=1_000_000, help="how many to compare, shared by the programs")
    parser.add_argument("--programs", default=";".join(PROGRAMS), help="some of: " + ";".join(PROGRAMS))
    parser.add_argument("--build", default=os.environ.get("OLLAMATRACE_BUILD", "build/release"), help="the build folder")
    parser.add_argument("--show", action="store_true", help="print an example of each class, too")
    arguments = parser.parse_args()
    arguments.build = os.path.abspath(arguments.build)
    os.environ["OLLAMATRACE_BUILD"] = arguments.build
    names = [name.strip() for name in arguments.programs.split(";")]
    share = arguments.stacks // len(names) + 1
    print("| program | " + " | ".join(COUNTERS) + " |")
    print("|---|" + "---:|" * len(COUNTERS))
    totals, ran, failed = [0] * len(COUNTERS), 0, []
    for name in names:
        try:
            counters, text = measure(name, arguments, share)
        except Skip as reason:
            print(f"| {name} | skipped: {reason} |", flush=True)
            continue
        ran += 1
        totals = [a + b for a, b in zip(totals, counters)]
        print(f"| {name} | " + " | ".join(str(count) for count in counters) + " |", flush=True)
        if counters[0] == 0:
            failed.append(f"{name}: nothing was compared")
        if counters[-1] != 0:
            failed.append(f"{name}: {counters[-1]} stacks differ for no known reason")
        wrong = counters[COUNTERS.index("remembered wrongly")]
        if wrong != 0:
            failed.append(f"{name}: {wrong} stacks are not what a walk without memory finds")
        if text and (arguments.show or wrong != 0 or counters[-1] != 0):
            print(text, file=sys.stderr)
    print("| all | " + " | ".join(str(count) for count in totals) + " |")
    for reason in failed:
        print(reason)
    sys.exit(1 if failed else 0 if ran else SKIPPED)


if __name__ == "__main__":
    main()
