#include "analyzer/soak/http_client.h"

#include <curl/curl.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ollamatrace {
namespace {

constexpr size_t kMaxBody = 16 << 20;

struct Sink {
  std::string* body;
  const HttpClient::OnData* on_data;
};

size_t Write(char* data, size_t size, size_t count, void* user) {
  Sink& sink = *static_cast<Sink*>(user);
  const absl::string_view piece(data, size * count);
  const size_t room = kMaxBody - std::min(kMaxBody, sink.body->size());
  absl::StrAppend(sink.body, piece.substr(0, room));
  if (*sink.on_data) (*sink.on_data)(piece);
  return piece.size();
}

}  // namespace

HttpClient::HttpClient() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  curl_ = curl_easy_init();
}

HttpClient::~HttpClient() { curl_easy_cleanup(static_cast<CURL*>(curl_)); }

HttpAnswer HttpClient::Get(const std::string& url, double timeout_seconds) {
  curl_easy_setopt(curl_, CURLOPT_HTTPGET, 1L);
  return Perform(url, timeout_seconds, {});
}

HttpAnswer HttpClient::Post(const std::string& url, const std::string& json, double timeout_seconds,
                            const OnData& on_data) {
  curl_easy_setopt(curl_, CURLOPT_POST, 1L);
  curl_easy_setopt(curl_, CURLOPT_POSTFIELDS, json.data());
  curl_easy_setopt(curl_, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(json.size()));
  curl_slist* headers = curl_slist_append(nullptr, "Content-Type: application/json");
  headers = curl_slist_append(headers, "Expect:");  // no pause before large bodies
  curl_easy_setopt(curl_, CURLOPT_HTTPHEADER, headers);
  HttpAnswer answer = Perform(url, timeout_seconds, on_data);
  curl_easy_setopt(curl_, CURLOPT_HTTPHEADER, nullptr);
  curl_slist_free_all(headers);
  return answer;
}

HttpAnswer HttpClient::Perform(const std::string& url, double timeout_seconds,
                               const OnData& on_data) {
  HttpAnswer answer;
  Sink sink = {&answer.body, &on_data};
  char error[CURL_ERROR_SIZE] = "";
  const auto millis = [](double seconds) {
    return static_cast<long>(std::clamp(std::ceil(seconds * 1000), 1.0, 1e9));
  };
  curl_easy_setopt(curl_, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, Write);
  curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &sink);
  curl_easy_setopt(curl_, CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(curl_, CURLOPT_TIMEOUT_MS, millis(timeout_seconds));
  curl_easy_setopt(curl_, CURLOPT_CONNECTTIMEOUT_MS,
                   millis(std::min(timeout_seconds, connect_timeout_seconds_)));
  curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);  // threads
  curl_easy_setopt(curl_, CURLOPT_NOPROXY, "*");  // the server itself is to be measured
  curl_easy_setopt(curl_, CURLOPT_USERAGENT, "ollama-leakview");
  const CURLcode code = curl_easy_perform(curl_);
  long status = 0;
  curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &status);
  answer.status = static_cast<int>(status);
  if (code != CURLE_OK) {
    // An answer that breaks off is none.
    answer.status = 0;
    answer.timed_out = code == CURLE_OPERATION_TIMEDOUT;
    answer.error = error[0] != '\0' ? error : curl_easy_strerror(code);
  }
  curl_easy_setopt(curl_, CURLOPT_ERRORBUFFER, nullptr);
  return answer;
}

}  // namespace ollamatrace
