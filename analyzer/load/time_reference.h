// A moment as a user names it.
#ifndef OLLAMATRACE_ANALYZER_LOAD_TIME_REFERENCE_H_
#define OLLAMATRACE_ANALYZER_LOAD_TIME_REFERENCE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "analyzer/load/marks.h"

namespace ollamatrace {

// CLOCK_MONOTONIC nanoseconds of `reference`: a time since the session's start ("90s", "+10m",
// "1.5h", "2d", "250ms", "90": seconds), or a mark (see FindMark). InvalidArgument when it is
// neither; the message lists the marks there are.
absl::StatusOr<uint64_t> ResolveTime(absl::string_view reference, uint64_t session_start_ns,
                                     const std::vector<Mark>& marks);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_LOAD_TIME_REFERENCE_H_
