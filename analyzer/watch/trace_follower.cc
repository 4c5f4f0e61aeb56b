#include "analyzer/watch/trace_follower.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "formats/byte_source.h"
#include "formats/chunk_scanner.h"
#include "formats/journal_reader.h"
#include "formats/journal_snapshot.h"
#include "formats/read_summary.h"
#include "formats/segment_files.h"

namespace ollamatrace {
namespace {

// The bytes of a file from an offset on.
class TailSource : public ByteSource {
 public:
  TailSource(ByteSource& file, uint64_t begin) : file_(file), begin_(begin) {}
  uint64_t size() const override { return file_.size() - std::min(file_.size(), begin_); }
  size_t Read(uint64_t offset, size_t n, void* out) override {
    return file_.Read(begin_ + offset, n, out);
  }
  int error() const override { return file_.error(); }

 private:
  ByteSource& file_;
  const uint64_t begin_;
};

constexpr uint64_t kWhole = ~uint64_t{0};

}  // namespace

absl::Status TraceFollower::ReadChunks(const std::string& path, uint64_t begin, uint64_t end) {
  const absl::StatusOr<std::unique_ptr<FileSource>> file = FileSource::Open(path);
  if (!file.ok()) return file.status();
  end = std::min(end, (*file)->size());
  if (end <= begin) return absl::OkStatus();
  TailSource tail(**file, begin);
  ReadSummary summary;
  return ChunkScanner(tail, end - begin, decoder_, summary).Scan();
}

absl::Status TraceFollower::CatchUp(const JournalSnapshot& journal, bool gaps) {
  const SegmentFiles files = FindSegmentFiles(base_);
  const auto read = [&](const std::map<uint32_t, std::string>& paths, uint32_t number,
                        uint64_t begin, uint64_t end) {
    const auto path = paths.find(number);
    absl::Status status =
        path == paths.end() ? absl::NotFoundError("dropped") : ReadChunks(path->second, begin, end);
    return gaps && absl::IsNotFound(status) ? absl::OkStatus() : status;
  };
  if (!begun_ || segment_ < journal.first_segment) {
    // The beginning, or what was to be read next is gone: the checkpoint has what is live.
    ledger_.Restart();
    begun_ = false;
    if (journal.first_segment != 0) {
      absl::Status status = read(files.checkpoints, journal.first_segment, 0, kWhole);
      if (!status.ok()) return status;
    }
    begun_ = true;
    segment_ = journal.first_segment;
    done_ = 0;
  }
  for (; segment_ < journal.segment; ++segment_, done_ = 0) {
    absl::Status status = read(files.segments, segment_, done_, kWhole);
    if (!status.ok()) return status;
  }
  if (journal.trace_end == done_) return absl::OkStatus();
  absl::Status status = read(files.segments, segment_, done_, journal.trace_end);
  if (status.ok()) done_ = journal.trace_end;
  return status;
}

absl::Status TraceFollower::Refresh() {
  constexpr int kAttempts = 5;
  absl::Status status;
  for (int attempt = 1; attempt <= kAttempts && !finished_; ++attempt) {
    const absl::StatusOr<JournalSnapshot> journal =
        TakeJournalSnapshot(absl::StrCat(base_, ".journal"));
    if (!journal.ok() && !absl::IsNotFound(journal.status())) return journal.status();
    if (journal.ok() && journal->state == JournalState::kUnborn) return absl::OkStatus();
    // Of one that has ended nothing is told, so nothing is read: there may be thousands.
    finished_ = !journal.ok() || journal->state == JournalState::kFinished || !journal->owner_alive;
    if (finished_) break;
    ledger_.TakeBack();
    if (identity_.empty()) {
      identity_ = journal->identity;
      decoder_.set_substitute_header(identity_);
    }
    status = CatchUp(*journal, /*gaps=*/attempt == kAttempts);
    if (absl::IsNotFound(status)) continue;
    if (!status.ok()) return status;
    ledger_.Mark();
    ReadSummary summary;
    DeliverJournal(*journal, decoder_, ledger_, summary);
    break;
  }
  return absl::OkStatus();
}

}  // namespace ollamatrace
