#include "formats/trace_reader.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "formats/byte_source.h"
#include "formats/chunk_scanner.h"
#include "formats/journal_reader.h"
#include "formats/journal_snapshot.h"
#include "formats/record_decoder.h"

namespace ollamatrace {
namespace {

absl::Status About(const std::string& what, const absl::Status& status) {
  if (status.ok()) return status;
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

class Reading {
 public:
  Reading(TraceVisitor& visitor, const ReadOptions& options)
      : visitor_(visitor), options_(options), decoder_(visitor) {}

  // Reads the trace's chunks in [0, end).
  absl::Status ReadChunks(ByteSource& source, uint64_t end, bool* found_any) {
    ChunkScanner scanner(source, end, decoder_, summary_);
    scanner.set_progress(options_.progress);
    absl::Status status = scanner.Scan();
    *found_any = scanner.found_any();
    if (absl::IsFailedPrecondition(status)) return NewerVersion(status);
    return status;
  }

  // Reads a trace that has no journal.
  absl::Status ReadWhole(ByteSource& source) {
    bool found_any = false;
    absl::Status status = ReadChunks(source, source.size(), &found_any);
    if (status.ok() && !found_any) return NotATrace(source);
    return status;
  }

  // `trace`: nullptr when it is missing.
  absl::Status ReadWithJournal(ByteSource* trace, const JournalSnapshot& journal) {
    summary_.has_journal = true;
    summary_.owner_alive = journal.owner_alive;
    decoder_.set_substitute_header(journal.identity);
    if (!journal.consistent) {
      summary_.AddNote(
          "the process changed its journal all the while: single figures may be off; try again");
    }
    const uint64_t there = trace == nullptr ? 0 : trace->size();
    if (there < journal.trace_end) {
      summary_.truncated = true;
      summary_.AddNote(trace == nullptr
                           ? absl::StrCat("the journal's trace is missing: ", journal.trace_end,
                                          " bytes of records are lost")
                           : absl::StrCat("the trace is cut (truncated): its journal says ",
                                          journal.trace_end, " bytes, and ", there, " are there"));
    }
    if (trace != nullptr) {
      bool found_any = false;
      absl::Status status = ReadChunks(*trace, std::min(there, journal.trace_end), &found_any);
      if (!status.ok()) return status;
    }
    DeliverJournal(journal, decoder_, visitor_, summary_);
    return absl::OkStatus();
  }

  void AddNote(std::string note) { summary_.AddNote(std::move(note)); }

  ReadSummary Summary() && {
    summary_.unknown_records += decoder_.unknown_records();
    summary_.complete = decoder_.end_seen();
    return std::move(summary_);
  }

 private:
  TraceVisitor& visitor_;
  const ReadOptions options_;
  RecordDecoder decoder_;
  ReadSummary summary_;
};

constexpr absl::string_view kTraceSuffix = ".zst";
constexpr absl::string_view kJournalSuffix = ".journal";

// Whether a journal that could be read says more than its trace does.
absl::Status Usable(const JournalSnapshot& journal) {
  switch (journal.state) {
    case JournalState::kUnborn:
      return absl::InvalidArgumentError("its recording had not begun");
    case JournalState::kFinished:
      return absl::InvalidArgumentError("everything in it is in the trace");
    case JournalState::kActive:
    case JournalState::kStopped:
      break;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ReadSummary> ReadTrace(const std::string& path, TraceVisitor& visitor,
                                      const ReadOptions& options) {
  const bool is_journal = absl::EndsWith(path, kJournalSuffix);
  absl::string_view stem = path;
  std::string trace_path = path;
  std::string journal_path;
  if (is_journal) {
    stem.remove_suffix(kJournalSuffix.size());
    trace_path = absl::StrCat(stem, kTraceSuffix);
    journal_path = path;
  } else if (absl::ConsumeSuffix(&stem, kTraceSuffix)) {
    journal_path = absl::StrCat(stem, kJournalSuffix);
  }

  // The journal first: the part of the trace that it calls committed does not change any more.
  absl::StatusOr<JournalSnapshot> journal = absl::NotFoundError("");
  if (!journal_path.empty()) journal = TakeJournalSnapshot(journal_path);
  absl::Status journal_status = journal.status();
  if (journal.ok()) journal_status = About(journal_path, Usable(*journal));

  absl::StatusOr<std::unique_ptr<FileSource>> trace = FileSource::Open(trace_path);
  Reading reading(visitor, options);
  absl::Status status;
  if (journal_status.ok()) {
    if (!trace.ok() && !absl::IsNotFound(trace.status())) return trace.status();
    status = reading.ReadWithJournal(trace.ok() ? trace->get() : nullptr, *journal);
  } else {
    const bool trace_missing = absl::IsNotFound(trace.status());
    if (trace_missing && is_journal) {
      return journal_status;
    }
    if (!trace.ok()) return trace.status();
    const bool finished = journal.ok() && journal->state == JournalState::kFinished;
    if (!absl::IsNotFound(journal_status) && !finished) {
      reading.AddNote(absl::StrCat("journal ignored: ", journal_status.message()));
    }
    status = reading.ReadWhole(**trace);
  }
  if (!status.ok()) return About(trace_path, status);
  return std::move(reading).Summary();
}

absl::StatusOr<ReadSummary> ReadTraceBytes(absl::string_view bytes, TraceVisitor& visitor) {
  MemorySource source(bytes);
  Reading reading(visitor, {});
  absl::Status status = reading.ReadWhole(source);
  if (!status.ok()) return status;
  return std::move(reading).Summary();
}

}  // namespace ollamatrace
