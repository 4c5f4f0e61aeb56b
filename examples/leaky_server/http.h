// A very small HTTP/1.1 server and client: one request a connection, loopback only.
#ifndef OLLAMATRACE_EXAMPLES_LEAKY_SERVER_HTTP_H_
#define OLLAMATRACE_EXAMPLES_LEAKY_SERVER_HTTP_H_

#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace leaky {

struct HttpRequest {
  std::string method;
  std::string path;   // without the query
  std::string query;  // behind the '?', as it came
  std::string body;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
};

using HttpHandler = std::function<HttpResponse(const HttpRequest&)>;

// Serves 127.0.0.1 with a fixed number of threads. Start, then Stop, from one thread.
class HttpServer {
 public:
  explicit HttpServer(HttpHandler handler) : handler_(std::move(handler)) {}
  ~HttpServer() { Stop(); }
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Binds `port` (0: the kernel chooses; see port()). False with a reason when it cannot.
  bool Start(int port, int threads, std::string* error);
  int port() const { return port_; }
  // No new connections; returns when those under way are answered.
  void Stop();

 private:
  void Serve();

  HttpHandler handler_;
  int listener_ = -1;
  int port_ = 0;
  std::vector<std::thread> threads_;
};

// POSTs `body` to 127.0.0.1:`port` and returns whether the answer's status was 200.
bool HttpPost(int port, std::string_view path, std::string_view body, std::string* answer);

// The value of `key` (at any depth) in a JSON text: a string's content with its escapes resolved
// (\uXXXX becomes '?'), a number's or a literal's text, an object's or a list's text with its
// brackets. False when there is no such key. Enough for this example; no validation.
bool JsonField(std::string_view json, std::string_view key, std::string* value);

// `text` as a JSON string, quotes included.
std::string JsonQuote(std::string_view text);

}  // namespace leaky

#endif  // OLLAMATRACE_EXAMPLES_LEAKY_SERVER_HTTP_H_
