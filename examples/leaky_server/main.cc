// leaky_server: an HTTP inference stand-in with leaks that are known by function, file and line.
//
//   leaky_server --port=0 --leak=request,plugin &
//   curl -s 127.0.0.1:PORT/api/generate -d '{"model": "leaky", "prompt": "why?", "stream": false}'
//
// A request chooses other leaks with `?leak=cache` or `"options": {"leak": "cache"}`;
// `"keep_alive": 0` unloads the plug-in and ends the runner with SIGKILL.
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "examples/leaky_server/http.h"
#include "examples/leaky_server/leaks.h"
#include "examples/leaky_server/runner.h"

namespace leaky {
namespace {

constexpr char kUsage[] =
    "usage: leaky_server [--port=N] [--threads=N] [--leak=LIST] [--plugin=PATH] [--expect]\n"
    "  --port=N       serve 127.0.0.1:N; 0, the default, takes a free port\n"
    "  --threads=N    threads that answer (default 4)\n"
    "  --leak=LIST    of request, cache, once, plugin, mapping, runner; or all, none (default "
    "none)\n"
    "  --plugin=PATH  the plug-in (default: ../lib/leaky_plugin.so beside the program's folder)\n"
    "  --expect       print the planted leaks as JSON and leave\n"
    "example: leaky_server --port=0 --leak=request\n";

struct Options {
  int port = 0;
  int threads = 4;
  unsigned leaks = kNoLeak;
  std::string program;
  std::string plugin;
  bool expect = false;
  bool runner = false;
};

bool ParseOptions(int argc, char** argv, Options* options) {
  char self[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", self, sizeof self);
  options->program = size > 0 ? std::string(self, static_cast<size_t>(size)) : argv[0];
  const size_t slash = options->program.rfind('/');
  options->plugin = options->program.substr(0, slash) + "/../lib/leaky_plugin.so";
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    const std::string value(flag.substr(std::min(flag.size(), flag.find('=') + 1)));
    if (flag.starts_with("--port=")) {
      options->port = atoi(value.c_str());
    } else if (flag.starts_with("--threads=")) {
      options->threads = std::clamp(atoi(value.c_str()), 1, 256);
    } else if (flag.starts_with("--leak=")) {
      if (!ParseLeaks(value, &options->leaks)) return false;
    } else if (flag.starts_with("--plugin=")) {
      options->plugin = value;
    } else if (flag == "--expect") {
      options->expect = true;
    } else if (flag == "--runner") {
      options->runner = true;
    } else {
      return false;
    }
  }
  return true;
}

// The stand-in for a forward pass: some short-lived blocks, and words that follow from the prompt.
std::string Infer(std::string_view prompt, int words) {
  static constexpr std::string_view kWords[] = {"the", "leak",  "is", "in",
                                                "a",   "cache", "of", "memory"};
  uint64_t state = 1469598103934665603u;
  for (const char c : prompt) state = (state ^ static_cast<unsigned char>(c)) * 1099511628211u;
  std::string text;
  for (int i = 0; i < words; ++i) {
    std::string activations(256 + state % 1024, static_cast<char>(state));
    state = state * 6364136223846793005u + static_cast<unsigned char>(activations[7]);
    if (!text.empty()) text += ' ';
    text += kWords[(state >> 33) % std::size(kWords)];
  }
  return text;
}

std::string Now() {
  const time_t now = time(nullptr);
  tm parts;
  char text[32];
  strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &parts));
  return text;
}

HttpResponse Failure(int status, std::string_view message) {
  return {status, "application/json", "{\"error\":" + JsonQuote(message) + "}"};
}

class InferenceServer {
 public:
  explicit InferenceServer(const Options& options) : options_(options), runner_(options.program) {}

  HttpResponse Handle(const HttpRequest& request) {
    if (request.path == "/" && request.method == "GET") {
      return {200, "text/plain", "leaky_server is running\n"};
    }
    if (request.path == "/api/version") return {.body = "{\"version\":\"0.1.0-leaky\"}"};
    if (request.path == "/api/tags") {
      return {
          .body =
              "{\"models\":[{\"name\":\"leaky:latest\",\"model\":\"leaky:latest\",\"size\":0}]}"};
    }
    if (request.path == "/api/generate" && request.method == "POST") return Generate(request);
    return Failure(404, "not found");
  }

  // What Ollama does when the last model goes.
  void Unload() {
    UnloadPlugin();
    runner_.Kill();
  }

 private:
  bool Leak(unsigned leaks, const HttpRequest& request, const char* prompt, std::string* error) {
    if (leaks & kRequestLeak) LeakPrompt(prompt);
    if (leaks & kCacheLeak) CachePrompt(prompt);
    if (leaks & kOnceLeak) MakeTableOnce(prompt);
    if (leaks & kMappingLeak) LeakMapping(prompt);
    int ignored;
    if ((leaks & kPluginLeak) && !RunPlugin(options_.plugin, prompt, &ignored, error)) return false;
    std::string answer;
    return !(leaks & kRunnerLeak) || runner_.Generate(request.body, &answer, error);
  }

  HttpResponse Generate(const HttpRequest& request) {
    std::string model = "leaky";
    std::string prompt;
    std::string value;
    JsonField(request.body, "model", &model);
    JsonField(request.body, "prompt", &prompt);
    unsigned leaks = options_.leaks;
    if (request.query.starts_with("leak=")) {
      value = request.query.substr(5);
      if (!ParseLeaks(value, &leaks)) return Failure(400, "unknown leak: " + value);
    } else if (JsonField(request.body, "leak", &value) && !ParseLeaks(value, &leaks)) {
      return Failure(400, "unknown leak: " + value);
    }
    int words = 16;
    if (JsonField(request.body, "num_predict", &value)) {
      words = std::clamp(atoi(value.c_str()), 1, 4096);
    }
    std::string error;
    // An empty prompt only loads the model, as with Ollama.
    if (!prompt.empty() && !Leak(leaks, request, prompt.c_str(), &error))
      return Failure(500, error);
    const std::string text = prompt.empty() ? "" : Infer(prompt, words);
    const bool unload = JsonField(request.body, "keep_alive", &value) && atoi(value.c_str()) == 0;
    if (unload) Unload();

    const std::string head =
        "{\"model\":" + JsonQuote(model) + ",\"created_at\":" + JsonQuote(Now());
    const std::string tail = ",\"done\":true,\"done_reason\":\"" +
                             std::string(unload           ? "unload"
                                         : prompt.empty() ? "load"
                                                          : "stop") +
                             "\",\"eval_count\":" + std::to_string(prompt.empty() ? 0 : words) +
                             "}";
    if (JsonField(request.body, "stream", &value) && value.starts_with("false")) {
      return {.body = head + ",\"response\":" + JsonQuote(text) + tail};
    }
    return {200, "application/x-ndjson",
            head + ",\"response\":" + JsonQuote(text) + ",\"done\":false}\n" + head +
                ",\"response\":\"\"" + tail + "\n"};
  }

  const Options options_;
  Runner runner_;
};

HttpResponse HandleInRunner(const HttpRequest& request) {
  std::string prompt;
  JsonField(request.body, "prompt", &prompt);
  LeakInRunner(prompt.c_str());
  return {.body = "{\"content\":" + JsonQuote(Infer(prompt, 16)) + "}"};
}

int Main(int argc, char** argv) {
  Options options;
  if (!ParseOptions(argc, argv, &options)) {
    fputs(kUsage, stderr);
    return 2;
  }
  std::string error;
  if (options.expect) {
    std::string json;
    if (!ExpectedLeaks(options.plugin, &json, &error)) {
      fprintf(stderr, "leaky_server: %s\n", error.c_str());
      return 1;
    }
    fputs(json.c_str(), stdout);
    return 0;
  }

  // Before any thread starts, so that each has the mask and only sigwait below sees a signal.
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);

  InferenceServer inference(options);
  HttpServer server(options.runner ? HttpHandler(HandleInRunner)
                                   : [&](const HttpRequest& r) { return inference.Handle(r); });
  if (!server.Start(options.port, options.threads, &error)) {
    fprintf(stderr, "leaky_server: %s\n", error.c_str());
    return 1;
  }
  printf("listening on 127.0.0.1:%d\n", server.port());
  fflush(stdout);
  int signal_number = 0;
  sigwait(&stop, &signal_number);
  inference.Unload();
  server.Stop();
  return 0;
}

}  // namespace
}  // namespace leaky

int main(int argc, char** argv) { return leaky::Main(argc, argv); }
