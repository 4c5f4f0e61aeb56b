#include "formats/trace_reader.h"

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "formats/byte_source.h"
#include "formats/chunk_scanner.h"
#include "formats/record_decoder.h"

namespace ollamatrace {
namespace {

absl::Status About(const std::string& what, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(what, ": ", status.message()));
}

absl::Status NotATrace(const ByteSource& source) {
  return absl::InvalidArgumentError(
      source.size() == 0
          ? "the file is empty; was the traced program started?"
          : "not a trace (no chunk found); give a .zst that libollamatrace.so wrote");
}

absl::Status NewerVersion(const absl::Status& status) {
  return absl::FailedPreconditionError(
      absl::StrCat(status.message(), "; use the ollama-leakview that came with the library"));
}

absl::StatusOr<ReadSummary> ReadSource(ByteSource& source, TraceVisitor& visitor,
                                       const ReadOptions& options) {
  ReadSummary summary;
  RecordDecoder decoder(visitor);
  ChunkScanner scanner(source, source.size(), decoder, summary);
  scanner.set_progress(options.progress);
  absl::Status status = scanner.Scan();
  if (absl::IsFailedPrecondition(status)) return NewerVersion(status);
  if (!status.ok()) return status;
  if (!scanner.found_any()) return NotATrace(source);
  summary.unknown_records += decoder.unknown_records();
  summary.complete = decoder.end_seen();
  return summary;
}

}  // namespace

absl::StatusOr<ReadSummary> ReadTrace(const std::string& path, TraceVisitor& visitor,
                                      const ReadOptions& options) {
  absl::StatusOr<std::unique_ptr<FileSource>> source = FileSource::Open(path);
  if (!source.ok()) return source.status();
  absl::StatusOr<ReadSummary> summary = ReadSource(**source, visitor, options);
  if (!summary.ok()) return About(path, summary.status());
  return summary;
}

absl::StatusOr<ReadSummary> ReadTraceBytes(absl::string_view bytes, TraceVisitor& visitor) {
  MemorySource source(bytes);
  return ReadSource(source, visitor, {});
}

}  // namespace ollamatrace
