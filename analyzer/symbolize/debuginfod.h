// Files from debuginfod servers, by build-id.
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_DEBUGINFOD_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_DEBUGINFOD_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace ollamatrace {

// Called now and then with (what is fetched, bytes done, bytes in all; 0: not known).
using FetchProgress = std::function<void(std::string_view, uint64_t, uint64_t)>;

// elfutils' client, libdebuginfod.so.1, loaded when it is first needed. It asks the servers of
// DEBUGINFOD_URLS, within DEBUGINFOD_TIMEOUT, and keeps what it got in DEBUGINFOD_CACHE_PATH or
// ~/.cache/debuginfod_client (debuginfod-client-config(7)). Without DEBUGINFOD_URLS nothing is
// asked. Once no server could be reached none is asked again. Thread-compatible.
class Debuginfod {
 public:
  explicit Debuginfod(FetchProgress progress = nullptr) : progress_(std::move(progress)) {}
  ~Debuginfod();
  Debuginfod(const Debuginfod&) = delete;
  Debuginfod& operator=(const Debuginfod&) = delete;

  enum class Kind { kExecutable, kDebugInfo };
  // The path of the file in the client's cache; empty when there is none. `build_id` as bytes;
  // `name` is for the progress.
  std::string Find(Kind kind, const std::string& build_id, std::string_view name);

  // Why nothing is asked any more, in one line; empty while that is not so. Said once: the second
  // call returns nothing.
  std::string TakeTrouble();

 private:
  bool Start();

  FetchProgress progress_;
  std::string name_;
  void* library_ = nullptr;
  void* client_ = nullptr;
  bool started_ = false;
  std::string trouble_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_DEBUGINFOD_H_
