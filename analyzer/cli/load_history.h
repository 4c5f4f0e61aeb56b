// From a user's paths to what was replayed.
#ifndef OLLAMATRACE_ANALYZER_CLI_LOAD_HISTORY_H_
#define OLLAMATRACE_ANALYZER_CLI_LOAD_HISTORY_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "analyzer/replay/session_history.h"

namespace ollamatrace {

struct LoadOptions {
  std::string since;  // as ResolveTime takes it; empty: from the beginning
  std::string until;  // empty: to the end
  bool by_thread = false;
  bool keep_layout = false;  // as in ReplayOptions; of processes that run, as they are now
  // Called now and then with (what is read, done, in all).
  std::function<void(absl::string_view, uint64_t, uint64_t)> progress;
};

struct LoadedSession {
  SessionHistory history;
  // One for each path or named trace that could not be read. That there is anything else to report
  // is no excuse.
  std::vector<absl::Status> errors;
};

// InvalidArgument: `since` or `until` mean nothing. Traces that cannot be read are in `errors`, or,
// where the user gave a folder that holds readable ones too, in the history's notes.
absl::StatusOr<LoadedSession> LoadHistory(const std::vector<std::string>& paths,
                                          const LoadOptions& options);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_LOAD_HISTORY_H_
