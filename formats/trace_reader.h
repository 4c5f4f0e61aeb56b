// Reads one process's trace: the .zst file and, when the process lives or was killed, the journal it left behind.
#ifndef OLLAMATRACE_FORMATS_TRACE_READER_H_
#define OLLAMATRACE_FORMATS_TRACE_READER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "formats/trace_format.h"

namespace ollamatrace {

// Receives the records of a trace in their order. For one address, the order of the calls is the true order of the
// events. Ids are defined before they are used, except for nodes of a journal that was cut: treat an unknown id as 0.
// Text in records is valid during the call only. The default implementations ignore the record.
class TraceVisitor {
 public:
  virtual ~TraceVisitor() = default;
  virtual void OnHeader(const HeaderRecord&) {}
  virtual void OnModule(const ModuleRecord&) {}
  virtual void OnModuleUnload(const ModuleUnloadRecord&) {}
  virtual void OnThread(const ThreadRecord&) {}
  virtual void OnThreadEnd(const ThreadEndRecord&) {}
  virtual void OnNode(const NodeRecord&) {}
  virtual void OnAlloc(const AllocRecord&) {}
  virtual void OnFree(const FreeRecord&) {}
  virtual void OnMap(const MapRecord&) {}
  virtual void OnUnmap(const UnmapRecord&) {}
  virtual void OnCounters(const CountersRecord&) {}
  virtual void OnSample(const SampleRecord&) {}
  virtual void OnLoss(const LossRecord&) {}
  virtual void OnMessage(const MessageRecord&) {}
  virtual void OnEnd(const EndRecord&) {}
};

struct ReadSummary {
  uint64_t chunks = 0;
  uint64_t damaged_chunks = 0;    // skipped: bad checksum, bad record, impossible length
  uint64_t dropped_bytes = 0;     // bytes of the file that belonged to no readable chunk, the cut tail included
  bool truncated = false;         // the file ends inside a chunk
  uint64_t unknown_records = 0;   // kinds that this reader does not know, skipped
  bool has_journal = false;       // a journal was read too
  bool owner_alive = false;       // ... and its process was alive at that moment
  bool complete = false;          // an End record was read
  std::vector<std::string> notes; // one line each, for the user: what was wrong and what it means
};

struct ReadOptions {
  // Called now and then with (bytes done, bytes in all).
  std::function<void(uint64_t, uint64_t)> progress;
};

// Reads `path`: a `.zst` trace (its `.journal` beside it is read too when it is there) or a `.journal` whose trace is
// missing. Errors: NotFound (no such file), FailedPrecondition (a newer format version, with both versions in the text),
// InvalidArgument (not a trace; an empty file), Internal (I/O). Damage inside is not an error: it is skipped, counted and noted.
// The message is one line: what, where, what to do. Memory is bounded by the largest chunk plus the journal's size.
absl::StatusOr<ReadSummary> ReadTrace(const std::string& path, TraceVisitor& visitor, const ReadOptions& options = {});

// The same for a trace that lies in memory (no journal).
absl::StatusOr<ReadSummary> ReadTraceBytes(absl::string_view bytes, TraceVisitor& visitor);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_TRACE_READER_H_
