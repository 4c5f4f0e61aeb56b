// Marks: what happened outside the process and when, one JSON object a line, in the session's
// `marks.jsonl`:
// {"t": <CLOCK_MONOTONIC ns>, "mark": "request", ...}. Written by whoever drives the load. A phase
// has a name of its own:
// {"t": ..., "mark": "phase", "name": "load"}.
#ifndef OLLAMATRACE_ANALYZER_LOAD_MARKS_H_
#define OLLAMATRACE_ANALYZER_LOAD_MARKS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace ollamatrace {

struct Mark {
  uint64_t time_ns = 0;  // CLOCK_MONOTONIC
  std::string name;      // of the kind: "request", "phase"
  std::string label;     // the field "name", where there is one: "load"
  uint64_t tokens = 0;   // the field "tokens", of a request; 0: not known
};

// Names of marks that mean something here.
inline constexpr absl::string_view kRequestMark = "request";
inline constexpr absl::string_view kPhaseMark = "phase";

struct Marks {
  std::vector<Mark> marks;  // by time
  uint64_t bad_lines = 0;   // neither empty nor a mark: skipped
};

// Any bytes give marks; what is no mark is counted. An unfinished last line counts as bad.
Marks ParseMarks(absl::string_view text);

// The mark that `reference` names, by its name or its label: "load" is the first such one, "load#3"
// the third, "load#-1" the last. nullptr when there is none.
const Mark* FindMark(const std::vector<Mark>& marks, absl::string_view reference);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_LOAD_MARKS_H_
