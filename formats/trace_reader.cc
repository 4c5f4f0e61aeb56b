#include "formats/trace_reader.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "formats/byte_source.h"
#include "formats/chunk_scanner.h"
#include "formats/journal_reader.h"
#include "formats/journal_snapshot.h"
#include "formats/record_decoder.h"
#include "formats/segment_files.h"

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

struct OpenFile {
  std::string path;
  uint32_t number = 0;
  bool is_checkpoint = false;
  std::unique_ptr<ByteSource> source;
};

constexpr uint64_t kWhole = ~uint64_t{0};

class Reading {
 public:
  Reading(TraceVisitor& visitor, const ReadOptions& options)
      : visitor_(visitor), options_(options), decoder_(visitor) {}

  // Reads the chunks of all files, those of the last one up to `end`.
  absl::Status ReadFiles(std::vector<OpenFile>& files, uint64_t end, bool* found_any) {
    uint64_t all = 0;
    for (const OpenFile& file : files) all += file.source->size();
    uint64_t before = 0;
    for (size_t i = 0; i < files.size(); ++i) {
      ByteSource& source = *files[i].source;
      summary_.files.push_back(files[i].path);
      const size_t notes = summary_.notes.size();
      ChunkScanner scanner(source,
                           i + 1 == files.size() ? std::min(end, source.size()) : source.size(),
                           decoder_, summary_);
      if (options_.progress) {
        scanner.set_progress(
            [&](uint64_t done, uint64_t) { options_.progress(before + done, all); });
      }
      const absl::Status status = scanner.Scan();
      *found_any |= scanner.found_any();
      if (files.size() > 1) Name(files[i].path, notes);
      if (absl::IsFailedPrecondition(status)) return NewerVersion(status);
      if (!status.ok()) return status;
      before += source.size();
    }
    return absl::OkStatus();
  }

  // Reads a trace that has no journal.
  absl::Status ReadWhole(std::vector<OpenFile>& files) {
    bool found_any = false;
    absl::Status status = ReadFiles(files, kWhole, &found_any);
    if (status.ok() && !found_any) return NotATrace(*files.back().source);
    return status;
  }

  // `files`: the last of them is the journal's segment, unless that is missing.
  absl::Status ReadWithJournal(std::vector<OpenFile>& files, const JournalSnapshot& journal) {
    summary_.has_journal = true;
    summary_.owner_alive = journal.owner_alive;
    decoder_.set_substitute_header(journal.identity);
    if (!journal.consistent) {
      summary_.AddNote(
          "the process changed its journal all the while: single figures may be off; try again");
    }
    const bool there =
        !files.empty() && files.back().number == journal.segment && !files.back().is_checkpoint;
    const uint64_t size = there ? files.back().source->size() : 0;
    if (size < journal.trace_end) {
      summary_.truncated = true;
      summary_.AddNote(there ? absl::StrCat("the trace is cut (truncated): its journal says ",
                                            journal.trace_end, " bytes, and ", size, " are there")
                             : absl::StrCat("the journal's trace is missing: ", journal.trace_end,
                                            " bytes of records are lost"));
    }
    bool found_any = false;
    absl::Status status = ReadFiles(files, there ? journal.trace_end : kWhole, &found_any);
    if (!status.ok()) return status;
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
  // Says which file the notes from number `first` on are about.
  void Name(const std::string& path, size_t first) {
    const std::string name = path.substr(path.rfind('/') + 1);
    for (size_t i = first; i < summary_.notes.size(); ++i) {
      summary_.notes[i] = absl::StrCat(name, ": ", summary_.notes[i]);
    }
  }

  TraceVisitor& visitor_;
  const ReadOptions options_;
  RecordDecoder decoder_;
  ReadSummary summary_;
};

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

// Opens the files that a trace is made of: the segments from `first` to `last`, and the checkpoint
// before them when `first` is not 0. `missing`: what is not there, one line each.
absl::Status OpenFiles(const SegmentFiles& found, uint32_t first, uint32_t last,
                       std::vector<OpenFile>* files, std::vector<std::string>* missing) {
  const auto open = [&](const std::string& path, uint32_t number, bool is_checkpoint) {
    absl::StatusOr<std::unique_ptr<FileSource>> source = FileSource::Open(path);
    if (source.ok()) files->push_back({path, number, is_checkpoint, *std::move(source)});
    return absl::IsNotFound(source.status()) ? absl::OkStatus() : source.status();
  };
  if (first != 0) {
    const auto checkpoint = found.checkpoints.find(first);
    if (checkpoint != found.checkpoints.end()) {
      absl::Status status = open(checkpoint->second, first, /*is_checkpoint=*/true);
      if (!status.ok()) return status;
    }
    if (files->empty()) {
      missing->push_back(absl::StrCat("the checkpoint before segment ", first,
                                      " is missing: what was live there is not known"));
    }
  }
  uint64_t next = first;
  const auto end = found.segments.upper_bound(last);
  for (auto it = found.segments.lower_bound(first); it != end; ++it) {
    const size_t count = files->size();
    absl::Status status = open(it->second, it->first, /*is_checkpoint=*/false);
    if (!status.ok()) return status;
    if (files->size() == count) continue;
    if (it->first != next) {
      missing->push_back(absl::StrCat("segments ", next, " to ", it->first - 1,
                                      " are missing: what they said is not known"));
    }
    next = uint64_t{it->first} + 1;
  }
  if (next < last) {
    missing->push_back(absl::StrCat("segments ", next, " to ", last - 1,
                                    " are missing: what they said is not known"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ReadSummary> ReadTrace(const std::string& path, TraceVisitor& visitor,
                                      const ReadOptions& options) {
  const TraceFileName name = ParseTraceFileName(path);
  const std::string journal_path = absl::StrCat(name.base, ".journal");
  constexpr int kAttempts = 20;
  for (int attempt = 1;; ++attempt) {
    // The journal first: the part of the trace that it calls committed does not change any more.
    absl::StatusOr<JournalSnapshot> journal = absl::NotFoundError("");
    if (name.kind != TraceFileKind::kOther) journal = TakeJournalSnapshot(journal_path);
    absl::Status journal_status = journal.status();
    if (journal.ok()) journal_status = About(journal_path, Usable(*journal));

    SegmentFiles found;
    if (name.kind == TraceFileKind::kOther) {
      found.segments[0] = path;
    } else {
      found = FindSegmentFiles(name.base);
    }
    std::vector<OpenFile> files;
    std::vector<std::string> missing;
    Reading reading(visitor, options);
    absl::Status status;
    if (journal_status.ok()) {
      status = OpenFiles(found, journal->first_segment, journal->segment, &files, &missing);
      if (!status.ok()) return status;
      // A process that lives may have dropped them in between.
      if (!missing.empty() && journal->owner_alive && attempt < kAttempts) continue;
      for (std::string& note : missing) reading.AddNote(std::move(note));
      status = reading.ReadWithJournal(files, *journal);
    } else {
      uint32_t first = found.segments.empty() ? 0 : found.segments.begin()->first;
      if (!found.checkpoints.empty()) first = found.checkpoints.rbegin()->first;
      const uint32_t last = found.segments.empty() ? 0 : found.segments.rbegin()->first;
      status = OpenFiles(found, first, last, &files, &missing);
      if (!status.ok()) return status;
      if (files.empty()) {
        if (name.kind == TraceFileKind::kJournal) return journal_status;
        const absl::StatusOr<std::unique_ptr<FileSource>> opened = FileSource::Open(path);
        return opened.ok() ? absl::NotFoundError(absl::StrCat(path, ": no such file"))
                           : opened.status();
      }
      const bool finished = journal.ok() && journal->state == JournalState::kFinished;
      if (!absl::IsNotFound(journal_status) && !finished) {
        reading.AddNote(absl::StrCat("journal ignored: ", journal_status.message()));
      }
      for (std::string& note : missing) reading.AddNote(std::move(note));
      status = reading.ReadWhole(files);
    }
    if (!status.ok()) return About(files.empty() ? path : files.front().path, status);
    return std::move(reading).Summary();
  }
}

absl::StatusOr<ReadSummary> ReadTraceBytes(absl::string_view bytes, TraceVisitor& visitor) {
  std::vector<OpenFile> files;
  files.push_back({"", 0, false, std::make_unique<MemorySource>(bytes)});
  Reading reading(visitor, {});
  absl::Status status = reading.ReadWhole(files);
  if (!status.ok()) return status;
  return std::move(reading).Summary();
}

}  // namespace ollamatrace
