"""`watch`: a live server followed from its trace and journal; metrics, alarms, a real Prometheus where there is one."""

import fcntl
import http.server
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import termios
import threading
import urllib.error
import urllib.parse
import urllib.request

import tracing

# The series of the stack that --leak=request leaks by.
STACK = r'ollamatrace_stack_live_bytes\{domain="heap",function="[^"]*CopyPrompt[^"]*",pid="\d+",' \
        r'place="[^"]*leaks\.cc:\d+",process="leaky_server"\}'
EXAMPLES = os.path.join(tracing.SOURCE, "examples", "compose")


def get(url):
    """Status and text."""
    try:
        with urllib.request.urlopen(url, timeout=tracing.COMMAND_SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Receiver:
    """A webhook's other end."""

    def __init__(self):
        bodies = self.bodies = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class WatchTest(tracing.TestCase):

    def setUp(self):
        self.asked = 0
        self.watch = None
        self.serve()

    def serve(self, **settings):
        self.session = os.path.join(self.folder(), "session")
        self.server = subprocess.Popen([tracing.LEAKY_SERVER, "--port=0", "--leak=request"], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, text=True,
                                       env=tracing.traced_environment(self.session, OLLAMATRACE_SAMPLE_MS="100", **settings))
        self.addCleanup(self.server.stdout.close)
        self.addCleanup(tracing.end_process, self.server)
        self.url = "http://" + self.server.stdout.readline().split()[-1]

    def ask(self, count):
        for _ in range(count):
            body = json.dumps({"model": "leaky", "prompt": f"request {self.asked}", "stream": False}).encode()
            with urllib.request.urlopen(urllib.request.Request(self.url + "/api/generate", body)) as answer:
                answer.read()
            self.asked += 1
            with open(os.path.join(self.session, "marks.jsonl"), "a", encoding="utf-8") as marks:
                marks.write(json.dumps({"t": self.asked, "mark": "request"}) + "\n")

    def start(self, *options):
        self.watch = subprocess.Popen([tracing.LEAKVIEW, "watch", "--interval=200ms", "--listen=127.0.0.1:0", *options,
                                       self.session], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.PIPE, text=True, env=tracing.plain_environment())
        self.addCleanup(self.watch.stderr.close)
        self.addCleanup(tracing.end_process, self.watch)
        line = self.watch.stderr.readline()
        self.assertIn("listening on port", line)
        return f"http://127.0.0.1:{line.split()[-1]}"

    def metric(self, base, pattern):
        """The value of the series that `pattern` matches; None without one."""
        found = re.search(rf"(?m)^{pattern} (\S+)$", get(base + "/metrics")[1])
        return float(found.group(1)) if found else None

    def test_metrics_are_the_reports(self):
        self.ask(20)
        base = self.start()
        self.ask(60)
        tracing.wait_until(lambda: self.metric(base, STACK) == 80 * 4096, "the stack's bytes are those of 80 requests")
        # Of those that it has seen from the beginning, growth is what came since.
        growth = self.metric(base, STACK.replace("live", "growth"))
        self.assertGreater(growth, 0)
        self.assertLessEqual(growth, 80 * 4096)
        self.assertEqual(self.metric(base, "ollamatrace_requests_total"), 80)
        self.assertEqual(self.metric(base, "ollamatrace_processes"), 1)
        live = self.metric(base, rf'ollamatrace_live_bytes\{{domain="heap",pid="{self.server.pid}",[^}}]*\}}')
        report = tracing.report(self.session)
        self.assertEqual(live, tracing.last_image(report, self.server.pid)["host"]["live_bytes"])
        self.assertGreater(self.metric(base, r"ollamatrace_rss_anon_bytes\{[^}]*\}"), 100_000)
        self.assertEqual(get(base + "/healthz"), (200, "ok\n"))
        status, text = get(base + "/api/report")
        self.assertEqual((status, json.loads(text)["schema"]), (200, "ollama-leakview/report/1"))
        self.assertEqual(get(base + "/nothing")[0], 404)
        # The server ends: its series go, the watch stays.
        tracing.end_process(self.server)
        tracing.wait_until(lambda: self.metric(base, "ollamatrace_ended_processes_total") == 1, "the end is noticed")
        self.assertEqual(self.metric(base, "ollamatrace_processes"), 0)
        self.assertIsNone(self.metric(base, STACK))
        self.assertEqual(tracing.end_process(self.watch), 0)

    def test_segments(self):
        """A trace whose beginning is dropped all the while is followed on, and from the middle."""
        self.serve(OLLAMATRACE_MODE="full", OLLAMATRACE_MAX_BYTES="256K")
        base = self.start()

        def checkpoints():
            return [int(number) for name in os.listdir(self.session) for number in re.findall(r"\.live(\d+)\.zst$", name)]
        while max(checkpoints(), default=0) < 20:
            self.assertLess(self.asked, 100_000, os.listdir(self.session))
            self.ask(200)
        for follower in (base, self.start()):
            tracing.wait_until(lambda url=follower: self.metric(url, STACK) == self.asked * 4096, "the stack's bytes are known")
            live = self.metric(follower, rf'ollamatrace_live_bytes\{{domain="heap",pid="{self.server.pid}",[^}}]*\}}')
            report = tracing.report(self.session)
            self.assertEqual(live, tracing.last_image(report, self.server.pid)["host"]["live_bytes"])
        self.assertGreater(self.metric(base, STACK.replace("live", "growth")), (self.asked - 200) * 4096)

    def test_breach_is_told_once(self):
        receiver = Receiver()
        self.addCleanup(receiver.close)
        told = os.path.join(self.folder(), "told")
        base = self.start("--peak=1K", f"--webhook={receiver.url}",
                          f"--on-breach=echo \"$OLLAMATRACE_BREACH $OLLAMATRACE_MESSAGE\" >> {told}")
        tracing.wait_until(lambda: os.path.exists(told) and receiver.bodies, "the command and the webhook")
        looks = 5
        tracing.wait_until(lambda: self.metric(base, "ollamatrace_alarms_total") == 1, "the alarm is counted")
        for _ in range(looks):
            self.ask(1)
            before = self.asked
            tracing.wait_until(lambda: self.metric(base, "ollamatrace_requests_total") == before, "another look")
        with open(told, encoding="utf-8") as file:
            self.assertRegex(file.read(), r"\Apeak peak: .*, allowed 1\.0 KiB.*\n\Z")
        self.assertEqual(len(receiver.bodies), 1)
        body = receiver.bodies[0]
        self.assertEqual((body["budget"], body["limit"]), ("peak", 1024))
        self.assertIn("allowed 1.0 KiB", body["text"])
        status, why = get(base + "/healthz")
        self.assertEqual(status, 503)
        self.assertIn("peak", why)

    def test_lines_and_once(self):
        self.ask(5)
        done = tracing.leakview("watch", "--once", self.session)
        self.assertEqual(done.status, 0, done.stderr)
        self.assertRegex(done.stdout, rf"leaky_server\[{self.server.pid}\] heap .*; top: ")
        done = tracing.leakview("watch", "--once", "--peak=1K", self.session)
        self.assertEqual(done.status, 1)
        self.assertIn("BROKEN peak", done.stdout)

    def test_page_on_a_terminal(self):
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.ask(5)
        watch = subprocess.Popen([tracing.LEAKVIEW, "watch", "--interval=200ms", self.session], stdin=subprocess.DEVNULL,
                                 stdout=theirs, stderr=subprocess.DEVNULL, env=tracing.plain_environment())
        self.addCleanup(tracing.end_process, watch)
        os.close(theirs)
        seen = b""

        def read():
            nonlocal seen
            try:
                seen += os.read(ours, 1 << 16)
            except OSError:  # nobody has the terminal any more
                return False
            return True
        while seen.count(b"\x1b[H") < 3:
            self.assertTrue(read(), seen)
        self.assertTrue(seen.startswith(b"\x1b[?1049h\x1b[?25l"), seen[:100])
        page = seen.split(b"\x1b[H")[2].decode().removesuffix("\x1b[J")
        self.assertIn(f"leaky_server [{self.server.pid}]", page)
        self.assertIn("CopyPrompt", page)
        lines = page.split("\r\n")
        self.assertLessEqual(len(lines), 24)
        self.assertLessEqual(max(len(line.removesuffix("\x1b[K")) for line in lines), 100)
        watch.send_signal(signal.SIGINT)
        while read():
            pass
        self.assertEqual(watch.wait(), 0)
        self.assertTrue(seen.endswith(b"\x1b[?25h\x1b[?1049l"), seen[-100:])

    def test_server_that_comes_later(self):
        tracing.end_process(self.server)
        self.session = os.path.join(self.folder(), "later")
        os.mkdir(self.session)
        base = self.start()
        self.assertEqual(self.metric(base, "ollamatrace_processes"), 0)
        server = subprocess.Popen([tracing.LEAKY_SERVER, "--port=0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  env=tracing.traced_environment(self.session))
        self.addCleanup(server.stdout.close)
        self.addCleanup(tracing.end_process, server)
        tracing.wait_until(lambda: self.metric(base, "ollamatrace_processes") == 1, "the server is noticed")

    def test_commands_keep_no_port(self):
        pid_file = os.path.join(self.folder(), "pid")
        base = self.start("--peak=1K", f"--on-breach=echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 600")
        tracing.wait_until(lambda: os.path.exists(pid_file), "the command runs")
        with open(pid_file, encoding="utf-8") as file:
            command = int(file.read())
        self.addCleanup(os.kill, command, signal.SIGKILL)
        self.assertEqual(tracing.end_process(self.watch), 0)
        os.kill(command, 0)  # it lives on
        with socket.create_server(("127.0.0.1", int(base.rsplit(":", 1)[1]))):
            pass

    def test_memory_stays_small(self):
        base = self.start()
        for _ in range(30):
            self.ask(50)
            get(base + "/metrics")
        with open(f"/proc/{self.watch.pid}/status", encoding="utf-8") as file:
            peak = int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1))
        self.assertLess(peak, 64 * 1024)

    def test_real_prometheus(self):
        prometheus, promtool = self.program("prometheus"), self.program("promtool")
        base = self.start("--peak=1K")
        folder = self.folder()
        # The rules are the example's, but for how long they wait.
        with open(os.path.join(EXAMPLES, "alerts.yml"), encoding="utf-8") as file:
            rules = re.sub(r"for: \d+m", "for: 0s", file.read())
        with open(os.path.join(EXAMPLES, "prometheus.yml"), encoding="utf-8") as file:
            config = file.read().replace("watch:9469", base.removeprefix("http://")).replace("15s", "1s")
        for name, text in (("alerts.yml", rules), ("prometheus.yml", config)):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text + ("\n" if name == "alerts.yml" else ""))
        with open(os.path.join(folder, "prometheus.yml"), encoding="utf-8") as file:
            text = file.read().replace("scrape_interval: 1s", "scrape_interval: 1s\n  evaluation_interval: 1s")
        with open(os.path.join(folder, "prometheus.yml"), "w", encoding="utf-8") as file:
            file.write(text)
        checked = tracing.run([promtool, "check", "config", os.path.join(folder, "prometheus.yml")])
        self.assertEqual(checked.status, 0, checked.stderr)
        linted = tracing.run([promtool, "check", "metrics"], stdin=get(base + "/metrics")[1].encode())
        self.assertEqual(linted.status, 0, linted.stdout + linted.stderr)
        port = tracing.free_port()
        with open(os.path.join(folder, "log"), "wb") as log:
            server = subprocess.Popen([prometheus, f"--config.file={folder}/prometheus.yml",
                                       f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"],
                                      stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.addCleanup(tracing.end_process, server)

        def api(path):
            try:
                return json.loads(get(f"http://127.0.0.1:{port}/api/v1/{path}")[1])["data"]
            except (OSError, ValueError):
                return None

        def series():
            data = api("query?query=ollamatrace_live_bytes%7Bdomain%3D%22heap%22%7D")
            return data and data["result"]
        result = tracing.wait_until(series, "Prometheus holds the series")
        self.assertEqual(result[0]["metric"]["process"], "leaky_server")
        self.assertGreater(float(result[0]["value"][1]), 0)

        # The dashboard's questions are ones that it answers, from series that are there.
        with open(os.path.join(EXAMPLES, "grafana", "ollamatrace.json"), encoding="utf-8") as file:
            panels = json.load(file)["panels"]
        expressions = {target["expr"] for panel in panels for target in panel["targets"]}
        asked = {name for expression in expressions for name in re.findall(r"ollamatrace_\w+", expression)}
        asked -= {"ollamatrace_growth_bytes_per_hour"}  # after a minute
        self.ask(20)
        tracing.wait_until(lambda: asked <= set(re.findall(r"(?m)^(ollamatrace_\w+)", get(base + "/metrics")[1])),
                           f"{asked} are served")
        for expression in expressions:
            self.assertIsNotNone(api("query?query=" + urllib.parse.quote(expression)), expression)

        def firing():
            data = api("alerts")
            return data and [a for a in data["alerts"] if a["state"] == "firing"]
        alerts = tracing.wait_until(firing, "an alert fires")
        self.assertIn("OllamaMemoryBudgetBroken", {a["labels"]["alertname"] for a in alerts})

    def test_what_cannot_be(self):
        def one_line(status, *arguments):
            done = tracing.leakview("watch", *arguments)
            self.assertEqual(done.status, status, done.stdout + done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            return done.stderr
        self.assertIn("neither a session folder nor a trace", one_line(3, "/no/such/session"))
        self.assertIn("need a budget", one_line(2, "--on-breach=true", self.session))
        self.assertIn("no address", one_line(2, "--listen=here", self.session))
        with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as taken:
            self.assertIn("in use", one_line(2, f"--listen=127.0.0.1:{taken.server_port}", self.session))
        one_line(2)


if __name__ == "__main__":
    tracing.main()
