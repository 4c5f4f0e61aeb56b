#include "examples/leaky_server/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace leaky {
namespace {

constexpr size_t kMostHeaderBytes = 64 << 10;
constexpr size_t kMostBodyBytes = 4 << 20;
constexpr int kSocketTimeoutSeconds = 20;

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

void SetTimeouts(int fd) {
  const timeval timeout{kSocketTimeoutSeconds, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
}

bool SendAll(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t sent = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    data.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

// Appends what one recv brings; false at the end of the stream, on an error or a time-out.
bool ReceiveSome(int fd, std::string* data) {
  char chunk[8192];
  ssize_t got;
  do {
    got = recv(fd, chunk, sizeof chunk, 0);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) return false;
  data->append(chunk, static_cast<size_t>(got));
  return true;
}

size_t ContentLength(std::string_view head) {
  constexpr char kName[] = "content-length:";
  for (size_t at = head.find("\r\n"); at != std::string_view::npos;
       at = head.find("\r\n", at + 2)) {
    const std::string_view line = head.substr(at + 2);
    if (line.size() > sizeof kName - 1 && strncasecmp(line.data(), kName, sizeof kName - 1) == 0) {
      return strtoul(std::string(line.substr(sizeof kName - 1, 32)).c_str(), nullptr, 10);
    }
  }
  return 0;
}

bool ReadRequest(int fd, HttpRequest* request) {
  std::string data;
  size_t end;
  while ((end = data.find("\r\n\r\n")) == std::string::npos) {
    if (data.size() > kMostHeaderBytes || !ReceiveSome(fd, &data)) return false;
  }
  const std::string head = data.substr(0, end);
  const size_t length = ContentLength(head);
  if (length > kMostBodyBytes) return false;
  request->body = data.substr(end + 4);
  while (request->body.size() < length) {
    if (!ReceiveSome(fd, &request->body)) return false;
  }
  request->body.resize(length);
  const size_t first = head.find(' ');
  const size_t second = first == std::string::npos ? first : head.find(' ', first + 1);
  if (second == std::string::npos) return false;
  request->method = head.substr(0, first);
  request->path = head.substr(first + 1, second - first - 1);
  const size_t question = request->path.find('?');
  if (question != std::string::npos) {
    request->query = request->path.substr(question + 1);
    request->path.resize(question);
  }
  return true;
}

const char* Reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    default:
      return "Internal Server Error";
  }
}

void Answer(int fd, const HttpResponse& response) {
  char head[256];
  snprintf(head, sizeof head,
           "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
           response.status, Reason(response.status), response.content_type.c_str(),
           response.body.size());
  SendAll(fd, head + response.body);
}

// The index behind the string whose opening quote is at `at`.
size_t SkipString(std::string_view json, size_t at) {
  for (++at; at < json.size() && json[at] != '"'; ++at) {
    if (json[at] == '\\') ++at;
  }
  return at + 1 < json.size() ? at + 1 : json.size();
}

std::string Unescape(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      plain += text[i];
      continue;
    }
    switch (text[++i]) {
      case 'n':
        plain += '\n';
        break;
      case 't':
        plain += '\t';
        break;
      case 'r':
        plain += '\r';
        break;
      case 'u':
        plain += '?';
        i += 4;
        break;
      default:
        plain += text[i];
    }
  }
  return plain;
}

}  // namespace

bool HttpServer::Start(int port, int threads, std::string* error) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  sockaddr_in address = Loopback(port);
  socklen_t size = sizeof address;
  if (listener_ < 0 || setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener_, 128) != 0 ||
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    *error = "127.0.0.1:" + std::to_string(port) + ": " + strerror(errno);
    return false;
  }
  port_ = ntohs(address.sin_port);
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Serve(); });
  return true;
}

void HttpServer::Stop() {
  if (listener_ < 0) return;
  shutdown(listener_, SHUT_RDWR);  // wakes the threads out of accept
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  close(listener_);
  listener_ = -1;
}

void HttpServer::Serve() {
  for (;;) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return;
    }
    SetTimeouts(fd);
    HttpRequest request;
    if (ReadRequest(fd, &request)) {
      Answer(fd, handler_(request));
    } else {
      Answer(fd, {400, "application/json", "{\"error\":\"bad request\"}"});
    }
    close(fd);
  }
}

bool HttpPost(int port, std::string_view path, std::string_view body, std::string* answer) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  SetTimeouts(fd);
  const sockaddr_in address = Loopback(port);
  std::string data = "POST " + std::string(path) + " HTTP/1.1\r\nHost: 127.0.0.1\r\n";
  data += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n";
  data += body;
  std::string reply;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
      SendAll(fd, data)) {
    while (reply.size() < kMostBodyBytes && ReceiveSome(fd, &reply)) {
    }
  }
  close(fd);
  const size_t end = reply.find("\r\n\r\n");
  if (end == std::string::npos) return false;
  *answer = reply.substr(end + 4);
  return reply.compare(0, 13, "HTTP/1.1 200 ") == 0;
}

bool JsonField(std::string_view json, std::string_view key, std::string* value) {
  for (size_t at = 0; at < json.size();) {
    if (json[at] != '"') {
      ++at;
      continue;
    }
    const size_t start = at;
    at = SkipString(json, at);
    const std::string_view name = json.substr(start + 1, at - start - 2);
    size_t next = json.find_first_not_of(" \t\r\n", at);
    if (name != key || next == std::string_view::npos || json[next] != ':') continue;
    next = json.find_first_not_of(" \t\r\n", next + 1);
    if (next == std::string_view::npos) return false;
    if (json[next] == '"') {
      const size_t end = SkipString(json, next);
      *value = Unescape(json.substr(next + 1, end - next - 2));
      return true;
    }
    size_t end = next;
    for (int depth = 0; end < json.size(); ++end) {
      if (json[end] == '"')
        end = SkipString(json, end) - 1;
      else if (json[end] == '{' || json[end] == '[')
        ++depth;
      else if (json[end] == '}' || json[end] == ']')
        --depth;
      if (depth < 0 || (depth == 0 && json[end] == ',')) break;
    }
    *value = std::string(json.substr(next, end - next));
    return true;
  }
  return false;
}

std::string JsonQuote(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char code[8];
      snprintf(code, sizeof code, "\\u%04x", c);
      quoted += code;
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

}  // namespace leaky
