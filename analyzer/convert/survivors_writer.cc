#include "analyzer/convert/survivors_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"

namespace ollamatrace {
namespace {

// Sums of sizes from a damaged trace stop at the top instead of wrapping.
void AddTo(uint64_t& sum, uint64_t value) { sum = value > ~sum ? ~uint64_t{0} : sum + value; }
void TakeFrom(uint64_t& sum, uint64_t value) { sum = value > sum ? 0 : sum - value; }

uint64_t Known(uint64_t gauge) { return gauge == kUnknownGauge ? 0 : gauge; }

}  // namespace

void SurvivorsWriter::OnHeader(const HeaderRecord& header) {
  if (header.mode == Mode::kSample) accepts_ = false;
  by_fork_ = header.born_by_fork != 0;
  HeaderRecord written = header;
  written.version = kTraceVersion;
  written.mode = Mode::kSurvivors;
  output_.Add(written);
}

SurvivorsWriter::Folded& SurvivorsWriter::FoldedOf(StackId stack) {
  Folded& folded = folded_[static_cast<uint32_t>(stack)];
  folded.counters.stack = folded.given.stack = stack;
  return folded;
}

void SurvivorsWriter::OnAlloc(const AllocRecord& alloc) {
  Saw(alloc.time_ns);
  if (alloc.domain != Domain::kHeap) {
    output_.Add(alloc);
    told_ns_ = std::max(told_ns_, alloc.time_ns);
    return;
  }
  const auto [it, added] = heap_.try_emplace(alloc.address);
  Block& block = it->second;
  if (!added) {
    FoldedOf(block.alloc.stack).live_bytes -=
        std::min(FoldedOf(block.alloc.stack).live_bytes, block.alloc.size);
    if (!block.written) {
      output_.Add(block.alloc);
      TakeFrom(live_bytes_, block.alloc.size);
      TakeFrom(live_blocks_, 1);
    }
    output_.Add(alloc);
  }
  block.alloc = alloc;
  block.written = !added;
  Folded& folded = FoldedOf(alloc.stack);
  AddTo(folded.live_bytes, alloc.size);
  folded.counters.peak_bytes = std::max(folded.counters.peak_bytes, folded.live_bytes);
  if (block.written) return;
  AddTo(live_bytes_, alloc.size);
  ++live_blocks_;
  peak_bytes_ = std::max(peak_bytes_, live_bytes_);
}

void SurvivorsWriter::Fold(const Block& block, uint64_t time_ns) {
  const AllocRecord& alloc = block.alloc;
  Folded& folded = FoldedOf(alloc.stack);
  TakeFrom(folded.live_bytes, alloc.size);
  if (block.written) return;
  CountersRecord& counters = folded.counters;
  if (counters.pairs == 0) counters.first_ns = alloc.time_ns;
  counters.first_ns = std::min(counters.first_ns, alloc.time_ns);
  counters.last_ns = std::max(counters.last_ns, alloc.time_ns);
  ++counters.pairs;
  AddTo(counters.bytes, alloc.size);
  AddTo(counters.lifetime_ns, time_ns > alloc.time_ns ? time_ns - alloc.time_ns : 0);
  TakeFrom(live_bytes_, alloc.size);
  TakeFrom(live_blocks_, 1);
  floor_bytes_ = std::min(floor_bytes_, live_bytes_);
}

void SurvivorsWriter::OnFree(const FreeRecord& free) {
  Saw(free.time_ns);
  if (free.domain != Domain::kHeap) {
    output_.Add(free);
    told_ns_ = std::max(told_ns_, free.time_ns);
    return;
  }
  const auto it = heap_.find(free.address);
  if (it == heap_.end()) {
    // A forked child frees what its parent had allocated: no reader counts that.
    if (!by_fork_) output_.Add(free);
    return;
  }
  Fold(it->second, free.time_ns);
  if (it->second.written) output_.Add(free);
  heap_.erase(it);
}

void SurvivorsWriter::OnMap(const MapRecord& map) {
  Saw(map.time_ns);
  told_ns_ = std::max(told_ns_, map.time_ns);
  output_.Add(map);
}

void SurvivorsWriter::OnUnmap(const UnmapRecord& unmap) {
  Saw(unmap.time_ns);
  told_ns_ = std::max(told_ns_, unmap.time_ns);
  output_.Add(unmap);
}

void SurvivorsWriter::OnCounters(const CountersRecord& counters) {
  Saw(counters.last_ns);
  if (counters.domain == Domain::kHeap) {
    FoldedOf(counters.stack).given = counters;
    return;
  }
  told_ns_ = std::max(told_ns_, counters.last_ns);
  output_.Add(counters);
}

void SurvivorsWriter::OnDropped(const DroppedRecord& dropped) {
  Saw(dropped.last_ns);
  told_ns_ = std::max(told_ns_, dropped.last_ns);
  output_.Add(dropped);
}

// What the trace has as events is held back here: it is added to what the library itself held back.
void SurvivorsWriter::OnSample(const SampleRecord& sample) {
  Saw(sample.time_ns);
  if (sample.written_bytes != kUnknownGauge) {
    // Of a checkpoint: it says by itself what was live.
    output_.Add(sample);
    told_ns_ = std::max(told_ns_, sample.time_ns);
    last_sample_ = sample;
    return;
  }
  SampleRecord written = sample;
  written.pooled_bytes = live_bytes_;
  AddTo(written.pooled_bytes, Known(sample.pooled_bytes));
  written.pooled_blocks = live_blocks_ + Known(sample.pooled_blocks);
  // As a reader of the trace would have it: at the library's peak at least the smallest sum of
  // events was live beside.
  written.pooled_peak_bytes = floor_bytes_;
  AddTo(written.pooled_peak_bytes, Known(sample.pooled_peak_bytes));
  written.pooled_peak_bytes =
      std::max({written.pooled_peak_bytes, peak_bytes_, written.pooled_bytes});
  output_.Add(written);
  told_peak_ = std::max(told_peak_, written.pooled_peak_bytes);
  told_ns_ = std::max(told_ns_, sample.time_ns);
  peak_bytes_ = floor_bytes_ = live_bytes_;
  last_sample_ = sample;
}

void SurvivorsWriter::OnGpuFailure(const GpuFailureRecord& failure) {
  Saw(failure.time_ns);
  output_.Add(failure);
}

void SurvivorsWriter::OnGpuImplicit(const GpuImplicitRecord& implicit) {
  Saw(implicit.time_ns);
  output_.Add(implicit);
}

void SurvivorsWriter::OnGpuLedger(const GpuLedgerRecord& ledger) {
  Saw(ledger.time_ns);
  output_.Add(ledger);
}

void SurvivorsWriter::OnGpuSample(const GpuSampleRecord& sample) {
  Saw(sample.time_ns);
  output_.Add(sample);
}

void SurvivorsWriter::OnEnd(const EndRecord& end) {
  if (end.kind == EndKind::kSegment) return;  // the next one follows
  ended_ = true;
  end_ = end;
}

// Once more with its gauges, when the greatest sum of live bytes came after it, or, without an End
// record, the last sign of life.
void SurvivorsWriter::WriteLastSample() {
  uint64_t told = told_ns_;
  for (const auto& [address, block] : heap_) told = std::max(told, block.alloc.time_ns);
  const bool more = peak_bytes_ > std::max(told_peak_, live_bytes_);
  if (!more && (ended_ || last_seen_ns_ <= told)) return;
  SampleRecord sample = last_sample_;
  sample.time_ns = last_seen_ns_;
  sample.written_bytes = sample.mapped_bytes = kUnknownGauge;
  sample.pooled_bytes = live_bytes_;
  sample.pooled_blocks = live_blocks_;
  sample.pooled_peak_bytes = std::max(peak_bytes_, live_bytes_);
  output_.Add(sample);
}

void SurvivorsWriter::WriteCounters() {
  for (const auto& [stack, folded] : folded_) {
    CountersRecord sum = folded.counters;
    const CountersRecord& given = folded.given;
    if (sum.pairs == 0 && given.pairs == 0 && given.peak_bytes == 0) continue;
    if (given.pairs != 0) {
      sum.first_ns = sum.pairs == 0 ? given.first_ns : std::min(sum.first_ns, given.first_ns);
      sum.last_ns = std::max(sum.last_ns, given.last_ns);
    }
    AddTo(sum.pairs, given.pairs);
    AddTo(sum.bytes, given.bytes);
    AddTo(sum.lifetime_ns, given.lifetime_ns);
    sum.peak_bytes = std::max(sum.peak_bytes, given.peak_bytes);
    output_.Add(sum);
  }
}

void SurvivorsWriter::WriteSurvivors() {
  std::vector<const AllocRecord*> survivors;
  for (const auto& [address, block] : heap_) {
    if (!block.written) survivors.push_back(&block.alloc);
  }
  // By time, then address: small deltas, and the same bytes for the same trace.
  std::sort(survivors.begin(), survivors.end(), [](const AllocRecord* a, const AllocRecord* b) {
    return a->time_ns != b->time_ns ? a->time_ns < b->time_ns : a->address < b->address;
  });
  for (const AllocRecord* alloc : survivors) output_.Add(*alloc);
}

void SurvivorsWriter::Finish(const ReadSummary& summary) {
  WriteLastSample();
  WriteCounters();
  WriteSurvivors();
  for (const std::string& note : summary.notes) {
    output_.Add(MessageRecord{last_seen_ns_, {note.data(), note.size()}});
  }
  if (ended_) {
    output_.Add(end_);
  } else if (summary.owner_alive) {
    output_.Add(EndRecord{last_seen_ns_, EndKind::kStopped});
  }
  output_.Finish();
}

absl::Status WriteSurvivorsTrace(const std::string& from, const std::string& to,
                                 const ReadOptions& options) {
  std::FILE* const file = std::fopen(to.c_str(), "wxe");
  int error = file == nullptr ? errno : 0;
  absl::Status status;
  if (file != nullptr) {
    SurvivorsWriter writer([&](absl::string_view chunk) {
      if (error == 0 && std::fwrite(chunk.data(), 1, chunk.size(), file) != chunk.size()) {
        error = errno;
      }
    });
    const absl::StatusOr<ReadSummary> summary = ReadTrace(from, writer, options);
    status = summary.status();
    if (status.ok() && !writer.accepts()) {
      status = absl::UnimplementedError(absl::StrCat(
          from, ": of mode sample; only traces of full and survivors can be converted"));
    }
    if (status.ok()) writer.Finish(*summary);
    if (std::fclose(file) != 0 && error == 0) error = errno;
  }
  if (status.ok() && error != 0) {
    status = absl::UnavailableError(absl::StrCat("cannot write ", to, ": ", std::strerror(error)));
  }
  if (!status.ok() && file != nullptr) std::remove(to.c_str());
  return status;
}

}  // namespace ollamatrace
