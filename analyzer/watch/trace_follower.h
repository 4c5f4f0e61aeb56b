// Follows one process's trace while it is written.
#ifndef OLLAMATRACE_ANALYZER_WATCH_TRACE_FOLLOWER_H_
#define OLLAMATRACE_ANALYZER_WATCH_TRACE_FOLLOWER_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "analyzer/watch/live_ledger.h"
#include "formats/journal_snapshot.h"
#include "formats/record_decoder.h"

namespace ollamatrace {

// Reads each chunk of the trace once, from segment to segment. What the journal holds beyond them
// is read anew each time and taken back before the next, so that the ledger always shows the
// present. The traced process is not stopped; its drain may be asked to stand still for the time of
// a copy (TakeJournalSnapshot). Not thread-safe.
class TraceFollower {
 public:
  // `base`: as TraceFileName's, the path without what tells the files of a process apart.
  explicit TraceFollower(std::string base) : base_(std::move(base)), decoder_(ledger_) {}
  TraceFollower(const TraceFollower&) = delete;
  TraceFollower& operator=(const TraceFollower&) = delete;

  // Errors are those of this moment: the next time may be better.
  absl::Status Refresh();

  const LiveLedger& ledger() const { return ledger_; }
  LiveLedger& ledger() { return ledger_; }
  // The process has ended, and the ledger shows an earlier moment.
  bool finished() const { return finished_; }

 private:
  // Reads what is new in the trace up to where `journal` begins. NotFound: a file was dropped in
  // the meantime. With `gaps`, a file that is missing is passed over.
  absl::Status CatchUp(const JournalSnapshot& journal, bool gaps);
  absl::Status ReadChunks(const std::string& path, uint64_t begin, uint64_t end);

  const std::string base_;
  LiveLedger ledger_;
  RecordDecoder decoder_;
  std::string identity_;  // the journal's, which the decoder may refer to
  bool begun_ = false;
  uint32_t segment_ = 0;  // all before it are done,
  uint64_t done_ = 0;     // and so many bytes of it
  bool finished_ = false;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_WATCH_TRACE_FOLLOWER_H_
