"""Other people's programs answer byte for byte what they answer without the library, and leave a readable trace.

A command whose own output differs from run to run is skipped by name; so is a program that is not installed.
"""

import os
import shutil
import subprocess

import tracing

C_SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct node { struct node* next; char name[24]; };
int main(int argc, char** argv) {
  struct node* list = NULL;
  for (int i = 0; i < 1000; ++i) {
    struct node* fresh = malloc(sizeof *fresh);
    snprintf(fresh->name, sizeof fresh->name, "node %d of %s", i, argc > 1 ? argv[1] : "it");
    fresh->next = list;
    list = fresh;
  }
  size_t sum = 0;
  while (list != NULL) {
    struct node* next = list->next;
    sum += strlen(list->name);
    free(list);
    list = next;
  }
  printf("%zu\n", sum);
  return 7;
}
"""

CXX_SOURCE = r"""
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
int main() {
  std::map<std::string, int> words;
  for (int i = 0; i < 500; ++i) ++words["word " + std::to_string(i % 37)];
  try { throw std::runtime_error("thrown"); } catch (const std::exception& error) { std::cout << error.what(); }
  std::cout << words.size() << "\n";
}
"""

PYTHON = r"""
import collections, hashlib, json, subprocess, sys, threading
words = collections.Counter(str(i * i)[:2] for i in range(20000))
threads = [threading.Thread(target=lambda: sum(range(10000))) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(json.dumps(sorted(words.items()))[:400])
print(hashlib.sha256(b"x" * 100000).hexdigest(), subprocess.check_output(["echo", "from a child"]))
print("to stderr", file=sys.stderr)
sys.exit(3)
"""

NODE = r"""
const crypto = require('crypto');
const list = Array.from({length: 20000}, (_, i) => ({i, text: 'item ' + i}));
console.log(crypto.createHash('sha256').update(JSON.stringify(list)).digest('hex'));
setTimeout(() => { console.error('late'); process.exit(5); }, 5);
"""

SQL = """
create table t(a integer primary key, b text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)
  insert into t select i, 'row ' || i from n;
create index u on t(b);
select count(*), sum(a), max(b) from t;
select b from t where b like '%99' order by b limit 5;
select * from missing;
"""

MAKEFILE = """
all: one two
\t@echo all
one two:
\t@echo making $@; echo $@ > $@.out
fail:
\t@exit 4
"""

GIT = """
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' \
  GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org \
  GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
rm -rf repository && git init -q -b main repository && cd repository || exit 1
cp ../text.txt ../code.c . && git add . && git commit -q -m first && echo more >> text.txt && git commit -q -a -m second
git log --stat; git log -p -1 | tail -5; git gc -q; git fsck 2>&1; git status --short; git rev-parse HEAD; git nonsense
"""

# name, the program that must be there, the command (run in the fixture's folder)
COMMANDS = [
    ("ls", "ls", ["ls", "-l", "--time-style=+", "tree"]),
    ("cat", "cat", ["cat", "text.txt", "missing.txt"]),
    ("sort", "sort", ["sort", "-S", "256K", "--parallel=2", "text.txt"]),
    ("md5sum", "md5sum", ["md5sum", "text.txt", "binary.bin"]),
    ("sha256sum", "sha256sum", ["sha256sum", "text.txt", "binary.bin"]),
    ("wc", "wc", ["wc", "text.txt", "code.c"]),
    ("cut", "cut", ["cut", "-d", " ", "-f", "2-3", "text.txt"]),
    ("od", "od", ["od", "-A", "x", "-t", "x1", "-N", "2000", "binary.bin"]),
    ("dd", "dd", ["dd", "if=binary.bin", "bs=1000", "count=20", "status=none"]),
    ("diff", "diff", ["diff", "-u", "--label", "a", "--label", "b", "code.c", "more.cc"]),
    ("false", "false", ["false"]),
    ("timeout", "timeout", ["timeout", "0.2", "sleep", "60"]),
    ("gcc", "gcc", ["gcc", "-O2", "-S", "-o", "-", "code.c"]),
    ("gcc_error", "gcc", ["gcc", "-c", "-o", "/dev/null", "text.txt", "-x", "c", "text.txt"]),
    ("gcc_link", "gcc", ["sh", "-c", "gcc -c code.c -o gcc.o && gcc gcc.o -o gcc.out && ./gcc.out again"]),
    ("g++", "g++", ["g++", "-O1", "-S", "-o", "-", "more.cc"]),
    ("python3", "python3", ["python3", "-c", PYTHON]),
    ("node", "node", ["node", "-e", NODE]),
    ("perl", "perl", ["perl", "-e", 'my %h; $h{$_ % 97} .= "x$_" for 1..20000; print join(",", map { length $h{$_} } '
                      'sort { $a <=> $b } keys %h), "\\n"; warn "warned\\n"; exit 9']),
    ("git", "git", ["sh", "-c", GIT]),
    ("sqlite3", "sqlite3", ["sh", "-c", "sqlite3 :memory: < script.sql"]),
    ("tar", "tar", ["tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-cf", "-", "tree"]),
    ("tar_gzip", "tar", ["sh", "-c", "tar --sort=name --mtime=@0 -cf - tree | gzip -9n | gzip -dc | tar -tvf - "
                         "--full-time | sort"]),
    ("gzip", "gzip", ["gzip", "-9nc", "text.txt"]),
    ("bzip2", "bzip2", ["bzip2", "-c", "text.txt"]),
    ("xz", "xz", ["xz", "-T2", "-c", "text.txt"]),
    ("zstd", "zstd", ["zstd", "-q", "-T2", "-c", "text.txt"]),
    ("openssl_digest", "openssl", ["openssl", "dgst", "-sha256", "text.txt"]),
    ("openssl_cipher", "openssl", ["openssl", "enc", "-aes-256-cbc", "-K", "00112233445566778899aabbccddeeff" * 2,
                                   "-iv", "00112233445566778899aabbccddeeff", "-in", "text.txt"]),
    ("gdb", "gdb", ["gdb", "--batch", "-nx", "-ex", "print 6 * 7", "-ex", "info functions main", "-ex",
                    "disassemble main", "./prebuilt"]),
    ("awk", "awk", ["awk", "{ count[$2]++ } END { n = 0; for (word in count) n += count[word]; print n }", "text.txt"]),
    ("sed", "sed", ["sed", "-n", "-e", "s/line/LINE/gp", "text.txt"]),
    ("grep", "grep", ["grep", "-n", "-E", "(7|9)+5", "text.txt"]),
    ("grep_nothing", "grep", ["grep", "nowhere to be found", "text.txt"]),
    ("find", "find", ["sh", "-c", "find tree -type f -name '*5*' -exec cat {} + | sort"]),
    ("xargs", "xargs", ["sh", "-c", "find tree -type f | sort | xargs -n 5 md5sum"]),
    ("bc", "bc", ["sh", "-c", "echo 'scale=200; 4*a(1); 2^512' | bc -lq"]),
    ("bash", "bash", ["bash", "-c", "for i in $(seq 30); do echo $((i * i)) | tr 0-9 a-j; done | sort | uniq -c; "
                      "x=$(cat <(head -3 text.txt) | wc -l); echo $x; (exit 6) || echo $? >&2; trap 'echo bye' EXIT; "
                      "exit 11"]),
    ("bash_jobs", "bash", ["bash", "-c", "for i in 1 2 3 4; do (sleep 0; exit $i) & p[$i]=$!; done; "
                           "for i in 1 2 3 4; do wait ${p[$i]}; echo $?; done"]),
    ("signal", "bash", ["bash", "-c", "kill -TERM $$"]),
    ("make", "make", ["sh", "-c", "make -s -j2 -Otarget all | sort"]),
    ("make_fails", "make", ["make", "fail"]),
    ("cmake", "cmake", ["cmake", "--version"]),
    ("cmake_script", "cmake", ["cmake", "-P", "script.cmake"]),
    ("ninja", "ninja", ["ninja", "--version"]),
    ("file", "file", ["file", "-b", "prebuilt", "text.txt", "binary.bin"]),
    ("readelf", "readelf", ["readelf", "-aW", "prebuilt"]),
    ("objdump", "objdump", ["objdump", "-d", "prebuilt"]),
    ("jq", "jq", ["jq", "-n", "[range(1000)] | map(. * .) | add"]),
    ("tclsh", "tclsh", ["sh", "-c", "echo 'for {set i 0} {$i < 99} {incr i} {lappend l $i}; puts $l' | tclsh"]),
    ("curl", "curl", ["sh", "-c", 'curl -s "file://$PWD/text.txt"']),
    ("java", "java", ["java", "-XX:TieredStopAtLevel=1", "-version"]),
    ("clang", "clang-14", ["clang-14", "-O1", "-S", "-o", "-", "code.c"]),
]

# Programs that a container may lack; all others together must still be this many.
LEAST_PROGRAMS = 20


class TransparencyTest(tracing.TestCase):
    compared = set()

    @classmethod
    def setUpClass(cls):
        cls.fixture = tracing.temporary_folder("fixture")
        files = {
            "text.txt": "".join(f"line {i * 7919 % 10007} of {i}\n" for i in range(20000)),
            "code.c": C_SOURCE, "more.cc": CXX_SOURCE, "script.sql": SQL, "Makefile": MAKEFILE,
            "script.cmake": 'foreach(i RANGE 200)\n  list(APPEND l "item ${i}")\nendforeach()\nmessage("${l}")\n',
        }
        for name, content in files.items():
            with open(os.path.join(cls.fixture, name), "w", encoding="utf-8") as file:
                file.write(content)
        with open(os.path.join(cls.fixture, "binary.bin"), "wb") as file:
            file.write(bytes(i * i * 31 % 251 for i in range(100000)))
        os.mkdir(os.path.join(cls.fixture, "tree"))
        for i in range(60):
            with open(os.path.join(cls.fixture, "tree", f"file{i:02}"), "w", encoding="utf-8") as file:
                file.write(f"{i}\n" * i)
        # A small ELF file to look at; any will do where there is no compiler.
        prebuilt = os.path.join(cls.fixture, "prebuilt")
        compiler = shutil.which("gcc")
        if compiler is None or tracing.run([compiler, "-O1", "-o", prebuilt, "code.c"], cwd=cls.fixture).status != 0:
            shutil.copy(shutil.which("true"), prebuilt)

    def settings(self):
        return {"LC_ALL": "C", "PYTHONHASHSEED": "0", "HOME": self.fixture, "TERM": "dumb", "TZ": "UTC"}

    def compare(self, name, program, command):
        self.program(program)
        plain_environment = tracing.plain_environment(**self.settings())
        session = os.path.join(self.folder(), "session")
        plain = tracing.run(command, plain_environment, self.fixture)
        traced = tracing.run(command, tracing.traced_environment(session, **self.settings()), self.fixture)
        if traced != plain:
            again = [tracing.run(command, plain_environment, self.fixture) for _ in range(3)]
            if any(other != plain for other in again):
                self.skipTest(f"{name} differs from run to run by itself")
        self.assertEqual(traced.status, plain.status, traced.stderr)
        self.assertEqual(traced.stderr, plain.stderr)
        self.assertEqual(traced.stdout, plain.stdout)
        self.assert_nothing_lost(tracing.report("--top=1", session))
        self.compared.add(program)

    def test_redis(self):
        """redis-server (with the allocator that it brings along) under redis-benchmark, all of it traced."""
        server_program, benchmark, client = (
            self.program(p) for p in ("redis-server", "redis-benchmark", "redis-cli"))
        answers = []
        for traced in (False, True):
            folder = self.folder()
            socket, session = os.path.join(folder, "s"), os.path.join(folder, "session")
            environment = (tracing.traced_environment(session, **self.settings()) if traced
                           else tracing.plain_environment(**self.settings()))
            with open(os.path.join(folder, "log"), "w+b") as log:
                server = subprocess.Popen(
                    [server_program, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder],
                    env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
                try:
                    def ready():
                        self.assertIsNone(server.poll(), "redis-server ended")
                        return tracing.run([client, "-s", socket, "ping"]).stdout == b"PONG\n"
                    tracing.wait_until(ready, "redis-server answers")
                    bench = tracing.run([benchmark, "-s", socket, "-q", "-n", "2000", "-c", "8", "-t",
                                         "set,get,lpush,lrange_100"], environment)
                    self.assertEqual((bench.status, bench.stderr), (0, b""))
                    said = [tracing.run([client, "-s", socket, *words], environment) for words in (
                        ["set", "key", "x" * 5000], ["strlen", "key"], ["llen", "mylist"], ["dbsize"],
                        ["eval", "local s = 0 for i = 1, 1000 do s = s + i end return s", "0"], ["nonsense"])]
                    answers.append(said)
                    tracing.run([client, "-s", socket, "shutdown", "nosave"])
                    self.assertEqual(server.wait(60), 0)
                finally:
                    tracing.end_process(server)
            if traced:
                report = tracing.report("--top=1", session)
                self.assert_nothing_lost(report)
                names = {tracing.exe_name(p) for p in report["processes"]}
                self.assertTrue(any("redis-cli" in name for name in names), names)
                self.assertTrue(any("redis-server" in name or "redis-check" in name for name in names), names)
        self.assertEqual(answers[0], answers[1])
        self.compared.add("redis-server")

    def test_zz_enough_programs(self):
        """Runs last, as unittest sorts by name."""
        self.assertGreaterEqual(len(self.compared), LEAST_PROGRAMS, sorted(self.compared))


def add_test(name, program, command):
    def test(self):
        self.compare(name, program, command)
    setattr(TransparencyTest, "test_" + name.replace("+", "x"), test)


for arguments in COMMANDS:
    add_test(*arguments)


if __name__ == "__main__":
    tracing.main()
