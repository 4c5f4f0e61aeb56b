#include "formats/segment_files.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"

namespace ollamatrace {
namespace {

namespace fs = std::filesystem;

// Takes ".<word><N>" with N from 1 on, written without leading zeros, from the end of `stem`.
bool ConsumeNumber(absl::string_view word, absl::string_view* stem, uint32_t* number) {
  const size_t dot = stem->rfind('.');
  if (dot == absl::string_view::npos || dot == 0) return false;
  absl::string_view digits = stem->substr(dot + 1);
  uint32_t value = 0;
  if (!absl::ConsumePrefix(&digits, word) || digits.empty() || digits[0] < '1' || digits[0] > '9' ||
      !absl::SimpleAtoi(digits, &value)) {
    return false;
  }
  *number = value;
  *stem = stem->substr(0, dot);
  return true;
}

}  // namespace

TraceFileName ParseTraceFileName(absl::string_view path) {
  TraceFileName name;
  absl::string_view stem = path;
  if (absl::ConsumeSuffix(&stem, ".journal")) {
    name.kind = TraceFileKind::kJournal;
  } else if (absl::ConsumeSuffix(&stem, ".zst")) {
    name.kind = ConsumeNumber("live", &stem, &name.number) ? TraceFileKind::kCheckpoint
                                                           : TraceFileKind::kSegment;
    if (name.kind == TraceFileKind::kSegment) ConsumeNumber("s", &stem, &name.number);
  }
  name.base = std::string(stem);
  return name;
}

SegmentFiles FindSegmentFiles(const std::string& base) {
  SegmentFiles files;
  // As the user wrote the folder.
  const std::string folder = base.substr(0, base.rfind('/') + 1);
  std::error_code error;
  for (fs::directory_iterator it(folder.empty() ? "." : folder, error), end; !error && it != end;
       it.increment(error)) {
    const std::string path = folder + it->path().filename().string();
    const TraceFileName name = ParseTraceFileName(path);
    if (name.base != base) continue;
    if (name.kind == TraceFileKind::kSegment) files.segments[name.number] = path;
    if (name.kind == TraceFileKind::kCheckpoint) files.checkpoints[name.number] = path;
  }
  return files;
}

}  // namespace ollamatrace
