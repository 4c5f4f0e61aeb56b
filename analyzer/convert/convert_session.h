// A session of traces of mode survivors, made of another session.
#ifndef OLLAMATRACE_ANALYZER_CONVERT_CONVERT_SESSION_H_
#define OLLAMATRACE_ANALYZER_CONVERT_CONVERT_SESSION_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "analyzer/load/session.h"

namespace ollamatrace {

// Called now and then with (what is read, done, in all).
using ConvertProgress = std::function<void(absl::string_view, uint64_t, uint64_t)>;

// Writes to `folder`, which is made, or is there and empty: a trace for each of the session's, what
// lies beside them (logs, scans), and the marks of all. Errors: AlreadyExists: the folder holds
// something, or two traces have the same name; those of WriteSurvivorsTrace. One line; what was
// written by then stays.
absl::Status ConvertSession(const Session& session, const std::string& folder,
                            const ConvertProgress& progress = nullptr);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CONVERT_CONVERT_SESSION_H_
