// HTTP requests, by libcurl.
#ifndef OLLAMATRACE_ANALYZER_SOAK_HTTP_CLIENT_H_
#define OLLAMATRACE_ANALYZER_SOAK_HTTP_CLIENT_H_

#include <functional>
#include <string>

#include "absl/strings/string_view.h"

namespace ollamatrace {

struct HttpAnswer {
  int status = 0;     // 0: none came
  std::string error;  // why, then: "Connection refused"
  bool timed_out = false;
  std::string body;  // its beginning, when it is very long
};

// One connection, kept between requests. Not thread-safe; clients are independent of each other.
class HttpClient {
 public:
  HttpClient();
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  HttpAnswer Get(const std::string& url, double timeout_seconds);
  // `on_data`, unless empty, sees the body piece by piece as it comes.
  using OnData = std::function<void(absl::string_view)>;
  HttpAnswer Post(const std::string& url, const std::string& json, double timeout_seconds,
                  const OnData& on_data = {});
  // For a webhook or a probe that should not hang on a dead server.
  void set_connect_timeout(double seconds) { connect_timeout_seconds_ = seconds; }

 private:
  HttpAnswer Perform(const std::string& url, double timeout_seconds, const OnData& on_data);

  void* curl_;  // CURL*
  double connect_timeout_seconds_ = 10;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SOAK_HTTP_CLIENT_H_
