"""A server with Ollama's and OpenAI's paths that misbehaves on demand: what `soak` has to survive.

  fake_ollama.py --port N [--die-after N] [--hang-after N] [--fail-after N] [--cut-after N]

The counts are of requests answered well. Says "listening on 127.0.0.1:PORT"; the model is "tiny".
"""

import argparse
import http.server
import json
import os
import signal
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    options = None
    served = 0
    answered = 0
    changed = threading.Condition()  # of the two

    def log_message(self, *_):
        pass

    def answer(self, status, body, kind="application/json"):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.hangs():
            time.sleep(3600)
        if self.path in ("/api/version", "/health"):
            self.answer(200, {"version": "0"})
        elif self.path == "/api/ps":
            self.answer(200, {"models": []})
        else:
            self.answer(404, {"error": "no such path"})

    def hangs(self):
        return self.options.hang_after is not None and Handler.served >= self.options.hang_after

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["model"] not in ("tiny", "default"):
            self.answer(404, {"error": f"model '{body['model']}' not found, try pulling it first"})
            return
        prompt = body.get("prompt", body.get("messages", body.get("input")))
        if not prompt:  # loads or unloads
            self.answer(200, {"done": True, "response": "", "embeddings": []})
            return
        with Handler.changed:
            number = Handler.served
            Handler.served += 1
        self.answer_request(number, body)
        with Handler.changed:
            Handler.answered += 1
            Handler.changed.notify_all()

    def answer_request(self, number, body):
        options = self.options
        if options.die_after is not None and number >= options.die_after:
            with Handler.changed:  # the others' answers are out
                Handler.changed.wait_for(lambda: Handler.answered == options.die_after)
                print("fake_ollama: terminate called after throwing", flush=True)
                os.abort()
        if self.hangs():
            time.sleep(3600)
        if options.fail_after is not None and number >= options.fail_after:
            self.answer(500, {"error": "out of memory"})
            return
        stream = body.get("stream", False)
        if self.path in ("/api/generate", "/api/chat"):
            last = {"done": True, "eval_count": 3, "response": "a b c"}
            pieces = [{"done": False, "response": "a"}] * 2 if stream else []
            text = "".join(json.dumps(piece) + "\n" for piece in [*pieces, last])
            if options.cut_after is not None and number >= options.cut_after:
                text = json.dumps({"done": False, "response": "a"}) + "\n"
            self.answer(200, text.encode(), "application/x-ndjson")
        elif self.path == "/api/embed":
            self.answer(200, {"embeddings": [[0.5]], "prompt_eval_count": 4})
        elif self.path in ("/v1/chat/completions", "/v1/completions"):
            done = {"choices": [{}], "usage": {"completion_tokens": 5}}
            if stream:
                text = "".join(f"data: {json.dumps(piece)}\n\n" for piece in ({"choices": [{}]}, done))
                self.answer(200, (text + "data: [DONE]\n\n").encode(), "text/event-stream")
            else:
                self.answer(200, done)
        else:
            self.answer(404, {"error": "no such path"})


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host")
    for name in ("die", "hang", "fail", "cut"):
        parser.add_argument(f"--{name}-after", type=int)
    Handler.options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server = Server(("127.0.0.1", Handler.options.port), Handler)
    print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
