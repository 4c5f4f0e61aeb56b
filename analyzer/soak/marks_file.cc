#include "analyzer/soak/marks_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {

uint64_t MonotonicNow() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

MarksFile::~MarksFile() {
  if (fd_ >= 0) close(fd_);
}

absl::Status MarksFile::Open(const std::string& folder) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::UnavailableError(absl::StrCat(folder, ": cannot be made: ", strerror(errno)));
  }
  const std::string path = folder + "/marks.jsonl";
  fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd_ < 0) {
    return absl::UnavailableError(absl::StrCat(path, ": cannot be written: ", strerror(errno)));
  }
  return absl::OkStatus();
}

void MarksFile::Append(const std::string& line) const {
  // Whether it succeeds shows in the report, which then counts fewer requests.
  [[maybe_unused]] const ssize_t written = write(fd_, line.data(), line.size());
}

void MarksFile::Phase(absl::string_view name) const {
  const nlohmann::ordered_json mark = {
      {"t", MonotonicNow()}, {"mark", "phase"}, {"name", std::string(name)}};
  Append(mark.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void MarksFile::Add(const Request& request) const {
  Append(absl::StrCat("{\"t\":", request.end_ns, ",\"mark\":\"",
                      request.answered ? "request" : "failed-request", "\",\"n\":", request.number,
                      ",\"start\":", request.start_ns, ",\"status\":", request.status,
                      ",\"tokens\":", request.tokens, "}\n"));
}

}  // namespace ollamatrace
