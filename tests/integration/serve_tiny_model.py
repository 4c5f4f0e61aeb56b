"""llama.cpp's HTTP server, from the xllamacpp wheel, with one model and one thread: what a llama-server does.

  serve_tiny_model.py MODEL            says "listening on http://127.0.0.1:PORT" and serves until SIGTERM
  serve_tiny_model.py MODEL --cache-ram MIB    the same with this cap of the prompt cache; 0: none
  serve_tiny_model.py MODEL --ask N    sends itself N completions, prints each answer, and ends
"""

import json
import signal
import sys
import urllib.request

import xllamacpp


def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    parameters = xllamacpp.CommonParams()
    parameters.model.path = sys.argv[1]
    parameters.n_ctx = 512
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.n_threads_http = 2
    parameters.warmup = False
    parameters.port = 0
    if sys.argv[2:3] == ["--cache-ram"]:
        parameters.cache_ram_mib = int(sys.argv[3])
    server = xllamacpp.Server(parameters)
    if sys.argv[2:3] == ["--ask"]:
        for number in range(int(sys.argv[3])):
            body = {"prompt": f"why is the sky {number}", "n_predict": 8, "temperature": 1, "seed": 1}
            request = urllib.request.Request(server.listening_address + "/completion", json.dumps(body).encode(),
                                             {"Content-Type": "application/json"})
            with urllib.request.urlopen(request) as answer:
                print(ascii(json.load(answer)["content"]))
        return
    print("listening on", server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main()
