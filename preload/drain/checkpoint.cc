#include "preload/drain/checkpoint.h"

#include <errno.h>
#include <string.h>

#include "preload/base/clock.h"
#include "preload/base/text.h"
#include "preload/drain/drain_state.h"
#include "preload/drain/layout.h"

namespace ollamatrace {
namespace {

// Records, or entries, that one step looks at: 0.1 ms.
constexpr uint32_t kStepRecords = 2048;
// A block may be written this long after its thread has ended.
constexpr uint64_t kThreadKeepNs = 600'000'000'000;
constexpr uint32_t kMaxMessages = 256;
constexpr uint32_t kMaxGpuEvents = 4096;  // failures, and blocks that ended with their context

char g_path[kMaxOwnPath];  // under the drain's lock

// Whether TimelinePoint::mapped_live_bytes of the analyzer counts it: what holds memory.
bool CountsAsMapped(const MapRecord& map) {
  constexpr uint8_t kAccess = 7;  // PROT_READ | PROT_WRITE | PROT_EXEC
  return map.kind != kMapFilePrivate && map.kind != kMapFileShared &&
         (map.protection & kAccess) != 0;
}

uint32_t DomainOf(const MapRecord& map) {
  return static_cast<uint32_t>(map.function == AllocFunction::kBrk ? Domain::kBreak
                                                                   : Domain::kMapping);
}

SampleRecord SampleOf(const uint8_t* payload, size_t size) {
  PayloadReader in(payload, size);
  SampleRecord sample;
  sample.time_ns = in.Number();
  for (uint64_t SampleRecord::*const gauge : kGauges) sample.*gauge = in.Number() - 1;
  return sample;
}

DroppedRecord DroppedOf(const uint8_t* payload, size_t size) {
  PayloadReader in(payload, size);
  DroppedRecord record;
  record.stack = StackId{static_cast<uint32_t>(in.Number())};
  record.domain = static_cast<Domain>(in.Byte());
  record.pairs = in.Number();
  record.bytes = in.Number();
  record.lifetime_ns = in.Number();
  record.first_ns = in.Number();
  record.last_ns = in.Number();
  record.weight_blocks = in.Number();
  record.weight_bytes = in.Number();
  record.weight_blocks_variance = in.Number();
  record.weight_bytes_variance = in.Number();
  return record;
}

// What a checkpoint has as it was, in its order, the checkpoint before first.
bool IsCopied(Tag tag) {
  switch (tag) {
    case Tag::kModule:
    case Tag::kModuleUnload:
    case Tag::kMessage:
    case Tag::kGpuPlace:
    case Tag::kGpuCapture:
    case Tag::kGpuFailure:
    case Tag::kGpuImplicit:
      return true;
    default:
      return false;
  }
}

bool AnyLoss(const JournalHeader& header) {
  for (int kind = 0; kind < kLossKinds; ++kind) {
    if (kind == static_cast<int>(LossKind::kStackTableFull)) continue;
    if (header.losses[kind].load(std::memory_order_relaxed) != 0) return true;
  }
  return false;
}

}  // namespace

void SegmentPath(const char* base, uint32_t number, char (&path)[kMaxOwnPath]) {
  TextWriter text(path, sizeof path);
  text.Put(base);
  if (number != 0) text.Put(".s").Number(number);
  text.Put(".zst");
  if (text.cut()) path[0] = '\0';
}

void CheckpointPath(const char* base, uint32_t number, bool whole, char (&path)[kMaxOwnPath]) {
  TextWriter text(path, sizeof path);
  text.Put(base).Put(".live").Number(number).Put(whole ? ".zst" : ".tmp");
  if (text.cut()) path[0] = '\0';
}

// ---- Memory

struct Checkpoint::Parts {
  Checkpoint* checkpoint;
  uint8_t* workspace;
  uint8_t* frame;
  uint8_t* raw;
  ColumnReader* columns;
  uint8_t* writer_raw;
  uint8_t* writer_chunk;
  uint64_t* written;
  TouchedBlocks::Entry* entries;
  uint32_t* buckets;
  TouchedRanges::Touched* touched;
  TouchedRanges::Piece* pieces;
  DroppedPairs::Sum* sums;
  uint32_t* sum_buckets;
  KeptThreads::Thread* threads;
  KeptSamples::Kept* kept_samples;
  SampleRecord* old_samples;
  KeptGpu::Kept* gpu_ledgers;
  KeptGpu::Kept* gpu_samples;
  uint8_t* memory_map;
};

size_t Checkpoint::LayOut(uint32_t capacity, void* memory, Parts* parts) {
  Layout layout(memory);
  parts->checkpoint = layout.Take<Checkpoint>(1);
  parts->workspace = layout.Take<uint8_t>(ChunkUnpackerBytes());
  parts->frame = layout.Take<uint8_t>(ChunkFile::kFrameBytes);
  parts->raw = layout.Take<uint8_t>(ChunkFile::kRawBytes);
  parts->columns = layout.Take<ColumnReader>(1);
  parts->writer_raw = layout.Take<uint8_t>(CheckpointWriter::kRawBytes);
  parts->writer_chunk = layout.Take<uint8_t>(CheckpointWriter::kChunkBytes);
  parts->written = layout.Take<uint64_t>(kMaxNodes / 64);
  parts->entries = layout.Take<TouchedBlocks::Entry>(size_t{capacity} + 1);
  parts->buckets = layout.Take<uint32_t>(TouchedBlocks::BucketsFor(capacity));
  parts->touched = layout.Take<TouchedRanges::Touched>(TouchedRanges::kMaxRanges);
  parts->pieces = layout.Take<TouchedRanges::Piece>(TouchedRanges::kMaxRanges);
  parts->sums = layout.Take<DroppedPairs::Sum>(DroppedPairs::kMaxSums);
  parts->sum_buckets = layout.Take<uint32_t>(DroppedPairs::kBuckets);
  parts->threads = layout.Take<KeptThreads::Thread>(KeptThreads::kMaxThreads);
  parts->kept_samples = layout.Take<KeptSamples::Kept>(KeptSamples::kMaxNew + 1);
  parts->old_samples = layout.Take<SampleRecord>(KeptSamples::kMaxOld);
  parts->gpu_ledgers = layout.Take<KeptGpu::Kept>(KeptGpu::kMaxLedgers);
  parts->gpu_samples = layout.Take<KeptGpu::Kept>(KeptGpu::kMaxSamples);
  parts->memory_map = layout.Take<uint8_t>(kMemoryMapBytes);
  return layout.used();
}

size_t Checkpoint::MostBytes() {
  Parts parts = {};
  return LayOut(TouchedBlocks::kMaxEntries, nullptr, &parts);
}

long Checkpoint::Start(void* memory, const CheckpointPlan& plan, Checkpoint** checkpoint) {
  // No more addresses are touched than there are events.
  uint64_t events = 0;
  for (uint32_t i = 0; i < plan.dropped; ++i) events += plan.segments[i].events;
  const uint32_t capacity =
      events < plan.max_touched ? static_cast<uint32_t>(events) : plan.max_touched;
  Parts parts = {};
  LayOut(capacity, memory, &parts);
  Checkpoint* const made = parts.checkpoint;
  made->file_.fd = -1;
  made->plan_ = plan;
  CheckpointPath(plan.base, plan.next, /*whole=*/false, g_path);
  const long failure = CreateOwnFile(&made->file_, g_path);
  if (failure != 0) return failure;
  DrainStep();
  if (!made->input_.Init(parts.workspace, ChunkUnpackerBytes(), parts.frame, parts.raw)) {
    CloseOwnFile(&made->file_, true);
    return -ENOMEM;
  }
  made->walker_.Init(parts.columns);
  made->writer_.Init(plan.journal, plan.writer, &made->file_, plan.chunk_bytes, parts.writer_raw,
                     parts.writer_chunk, parts.written);
  made->blocks_.Init(parts.entries, parts.buckets, capacity);
  made->ranges_.Init(parts.touched, parts.pieces);
  made->dropped_.Init(parts.sums, parts.sum_buckets);
  made->threads_.Init(parts.threads);
  made->samples_.Init(parts.kept_samples, parts.old_samples);
  made->gpu_.Init(parts.gpu_ledgers, parts.gpu_samples);
  made->memory_map_ = parts.memory_map;
  made->no_losses_ = !AnyLoss(*plan.journal->header());
  made->first_pass_ = true;
  made->all_bytes_ = plan.old.bytes;
  for (uint32_t i = 0; i < plan.dropped; ++i) made->all_bytes_ += plan.segments[i].bytes;
  // The header comes first. It is encoded where the first chunk will be read to.
  const size_t size =
      EncodeSegmentHeader(plan.journal->identity(), plan.journal->header()->identity_bytes,
                          plan.next, plan.next_begin_ns, parts.raw);
  made->writer_.Encoded(parts.raw, size);
  if (plan.old.bytes == 0) {
    made->StartSegments();
  } else {
    made->phase_ = Phase::kDefinitions;
    made->OpenOld();
  }
  *checkpoint = made;
  return 0;
}

// ---- Steps

void Checkpoint::StartSegments() {
  phase_ = Phase::kSegments;
  place_ = 0;
  samples_seen_ = 0;
  event_ = 0;
  input_bytes_ = 0;
  walker_.Start(0, nullptr, 0);
  input_.Close();
}

uint64_t Checkpoint::NextWriteBytes() const {
  if (writer_.HasRoom() && phase_ != Phase::kEnd) return 0;
  return writer_.FlushBytes() + kSmallRecordBytes;
}

CheckpointStatus Checkpoint::Step() {
  if (failure_ == 0 && (!writer_.HasRoom() || phase_ == Phase::kEnd)) {
    if (phase_ == Phase::kEnd && writer_.HasRoom()) {
      writer_.End({MonotonicNs(), EndKind::kSegment});
      phase_ = Phase::kWritten;
    }
    Fail(writer_.Flush());
  } else if (failure_ == 0) {
    switch (phase_) {
      case Phase::kDefinitions:
        WalkDefinitions();
        break;
      case Phase::kSegments:
        WalkSegments();
        break;
      case Phase::kOld:
        WalkOld();
        break;
      case Phase::kBlocks:
        WriteBlocks();
        break;
      case Phase::kRanges:
        WriteRanges();
        break;
      case Phase::kThreads:
        WriteThreads();
        break;
      case Phase::kDropped:
        WriteDropped();
        break;
      case Phase::kSamples:
        WriteSamples();
        break;
      case Phase::kGpu:
        WriteGpu();
        break;
      case Phase::kEnd:
      case Phase::kWritten:
        break;
    }
  }
  if (failure_ != 0) return CheckpointStatus::kFailed;
  return phase_ == Phase::kWritten ? CheckpointStatus::kDone : CheckpointStatus::kMore;
}

double Checkpoint::Progress() const {
  if (phase_ >= Phase::kThreads) return 1;
  constexpr double kAll = 4294967296.0;
  const PassRange& pass = blocks_.pass();
  const double width = static_cast<double>(pass.end() - pass.begin()) / kAll;
  const double read = all_bytes_ == 0 ? 0
                                      : static_cast<double>(input_bytes_ + input_.position()) /
                                            static_cast<double>(all_bytes_);
  return static_cast<double>(pass.begin()) / kAll + width * (read < 1 ? read : 1);
}

void Checkpoint::OpenOld() {
  CheckpointPath(plan_.base, plan_.old.number, /*whole=*/true, g_path);
  input_.Open(g_path, plan_.old.device, plan_.old.inode, plan_.old.bytes);
}

bool Checkpoint::NextChunk() {
  size_t size = 0;
  Fail(input_.Next(&size));
  if (failure_ != 0) return false;
  walker_.Start(input_.kind(), input_.raw(), size);
  return true;
}

// Modules and messages come before all blocks and mappings, in their order.
struct Checkpoint::DefinitionSink {
  Checkpoint* checkpoint;
  bool done = false;

  void OnAlloc(const AllocRecord&) { done = true; }
  void OnFree(const FreeRecord&) { done = true; }
  void OnMap(const MapRecord&) { done = true; }
  void OnUnmap(const UnmapRecord&) { done = true; }
  void OnOther(Tag tag, const uint8_t* payload, size_t payload_size, const uint8_t* record,
               size_t size) {
    if (IsCopied(tag)) checkpoint->Copy(tag, payload, payload_size, record, size);
  }
};

void Checkpoint::WalkDefinitions() {
  DefinitionSink sink{this};
  for (uint32_t i = 0; i < kStepRecords && !sink.done && writer_.HasRoom(); ++i) {
    const WalkResult result = walker_.Next(&sink);
    if (result == WalkResult::kMore) continue;
    if (result == WalkResult::kBad) return Fail(-EBADMSG);
    if (i != 0) return;
    if (!input_.AtEnd()) {
      NextChunk();
      return;
    }
    break;
  }
  if (sink.done || input_.AtEnd()) StartSegments();
}

// What a step does with the segments' records.
struct Checkpoint::SegmentSink {
  Checkpoint* checkpoint;

  void OnAlloc(const AllocRecord& alloc) {
    Checkpoint* const c = checkpoint;
    const uint8_t domain = static_cast<uint8_t>(alloc.domain);
    bool fresh = false;
    TouchedBlocks::Entry* const entry =
        c->TouchBlock(BlockKey(alloc.address, domain), alloc.time_ns, &fresh);
    if (entry != nullptr) {
      if ((entry->packed & TouchedBlocks::kLive) != 0) c->BlockDied(*entry, alloc.time_ns);
      const uint64_t born_here =
          fresh ? TouchedBlocks::kBornHere : entry->packed & TouchedBlocks::kBornHere;
      entry->packed = EventSize(alloc.size < kMaxEventSize ? alloc.size : kMaxEventSize) |
                      static_cast<uint64_t>(alloc.function) << 48 | TouchedBlocks::kLive |
                      born_here | static_cast<uint64_t>(domain) << 56;
      entry->time_ns = alloc.time_ns;
      entry->stack = static_cast<uint32_t>(alloc.stack);
      entry->thread = static_cast<uint32_t>(alloc.thread);
      if (alloc.domain == Domain::kHeap && c->CountsBlocks()) {
        c->samples_.ChangeWritten(c->samples_seen_, c->Weight(alloc.size).bytes);
      }
    }
    ++c->event_;
  }
  void OnFree(const FreeRecord& free) {
    Checkpoint* const c = checkpoint;
    bool fresh = false;
    TouchedBlocks::Entry* const entry = c->TouchBlock(
        BlockKey(free.address, static_cast<uint8_t>(free.domain)), free.time_ns, &fresh);
    if (entry != nullptr && (entry->packed & TouchedBlocks::kLive) != 0) {
      c->BlockDied(*entry, free.time_ns);
      entry->packed &= ~TouchedBlocks::kLive;
    }
    ++c->event_;
  }
  void OnMap(const MapRecord& map) {
    checkpoint->TouchRange(map.address, map.length, map.time_ns, &map);
    ++checkpoint->event_;
  }
  void OnUnmap(const UnmapRecord& unmap) {
    checkpoint->TouchRange(unmap.address, unmap.length, unmap.time_ns, nullptr);
    ++checkpoint->event_;
  }
  void OnOther(Tag tag, const uint8_t* payload, size_t payload_size, const uint8_t* record,
               size_t size) {
    Checkpoint* const c = checkpoint;
    if (tag == Tag::kSample) {
      if (c->first_pass_) c->samples_.AddNew(c->samples_seen_, SampleOf(payload, payload_size));
      ++c->samples_seen_;
    } else if (c->first_pass_) {
      c->OnDefinition(tag, payload, payload_size, record, size, /*old=*/false);
    }
  }
};

void Checkpoint::WalkSegments() {
  SegmentSink sink{this};
  for (uint32_t i = 0; i < kStepRecords && failure_ == 0 && writer_.HasRoom(); ++i) {
    const WalkResult result = walker_.Next(&sink);
    if (result == WalkResult::kMore) continue;
    if (result == WalkResult::kBad) return Fail(-EBADMSG);
    if (i != 0) return;  // a chunk is a step of its own
    if (place_ != 0 && !input_.AtEnd()) {
      NextChunk();
      return;
    }
    if (place_ != 0) input_bytes_ += input_.position();
    input_.Close();
    if (place_ == plan_.dropped) {
      phase_ = Phase::kOld;
      if (plan_.old.bytes == 0) {
        place_ = 0;
        phase_ = Phase::kBlocks;
        return;
      }
      OpenOld();
      return;
    }
    const TraceFileInfo& segment = plan_.segments[place_++];
    SegmentPath(plan_.base, segment.number, g_path);
    input_.Open(g_path, segment.device, segment.inode, segment.bytes);
    return;
  }
}

// The same with those of the checkpoint before: what is live goes on unless it was touched.
struct Checkpoint::OldSink {
  Checkpoint* checkpoint;

  void OnAlloc(const AllocRecord& alloc) {
    Checkpoint* const c = checkpoint;
    const uint8_t domain = static_cast<uint8_t>(alloc.domain);
    const uint64_t key = BlockKey(alloc.address, domain);
    if (!c->blocks_.IsInPass(key)) return;
    const bool heap = alloc.domain == Domain::kHeap;
    const SampleWeight weight = c->Weight(alloc.size);
    if (heap) c->old_written_bytes_ += weight.bytes;
    const TouchedBlocks::Entry* const entry = c->blocks_.Find(key);
    if (entry == nullptr) {
      c->WriteAlloc(alloc);
      return;
    }
    if (heap) c->samples_.ChangeWritten(entry->samples, 0 - weight.bytes);
    c->dropped_.AddPair(static_cast<uint32_t>(alloc.stack), domain, alloc.size, alloc.time_ns,
                        entry->touched_ns, heap && c->plan_.sample_bytes != 0 ? &weight : nullptr);
  }
  void OnFree(const FreeRecord&) {}
  void OnMap(const MapRecord& map) {
    Checkpoint* const c = checkpoint;
    const PassRange& pass = c->ranges_.pass();
    uint64_t begin = map.address < pass.begin() ? pass.begin() : map.address;
    uint64_t end = map.address + map.length;
    if (end < map.address || end > pass.end()) end = pass.end();
    if (begin >= end) return;
    const bool counts = CountsAsMapped(map);
    if (counts) c->old_mapped_bytes_ += end - begin;
    const TouchedRanges::TouchedList& touched = c->ranges_.touched();
    bool any = false;
    uint64_t first_ns = 0;
    for (uint32_t i = touched.FirstEndingAfter(begin); begin < end; ++i) {
      const uint64_t next = i < touched.count() && touched[i].begin < end ? touched[i].begin : end;
      if (next > begin) {
        c->WriteMap(map, begin, next);
        any = true;
      }
      if (next == end) break;
      if (first_ns == 0) first_ns = touched[i].touched_ns;
      const uint64_t gone_begin = next > begin ? next : begin;
      const uint64_t gone_end = touched[i].end < end ? touched[i].end : end;
      if (counts) c->samples_.ChangeMapped(touched[i].samples, gone_begin - gone_end);
      begin = gone_end;
    }
    if (!any) {
      c->dropped_.AddPair(static_cast<uint32_t>(map.stack), DomainOf(map), map.length, map.time_ns,
                          first_ns, nullptr);
    }
  }
  void OnUnmap(const UnmapRecord&) {}
  void OnOther(Tag tag, const uint8_t* payload, size_t payload_size, const uint8_t* record,
               size_t size) {
    Checkpoint* const c = checkpoint;
    if (!c->first_pass_) return;
    if (tag == Tag::kSample) {
      c->samples_.AddOld(SampleOf(payload, payload_size));
    } else if (tag == Tag::kDropped) {
      c->dropped_.Add(DroppedOf(payload, payload_size));
    } else if (!IsCopied(tag)) {
      c->OnDefinition(tag, payload, payload_size, record, size, /*old=*/true);
    }
  }
};

void Checkpoint::WalkOld() {
  OldSink sink{this};
  for (uint32_t i = 0; i < kStepRecords && writer_.HasRoom(); ++i) {
    const WalkResult result = walker_.Next(&sink);
    if (result == WalkResult::kMore) continue;
    if (result == WalkResult::kBad) return Fail(-EBADMSG);
    if (i != 0) return;
    if (!input_.AtEnd()) {
      NextChunk();
      return;
    }
    input_bytes_ += input_.position();
    input_.Close();
    place_ = 0;
    phase_ = Phase::kBlocks;
    return;
  }
}

// What the segments leave live.
void Checkpoint::WriteBlocks() {
  for (uint32_t i = 0; i < kStepRecords && writer_.HasRoom(); ++i) {
    if (place_ == blocks_.used()) {
      place_ = 0;
      phase_ = Phase::kRanges;
      return;
    }
    const TouchedBlocks::Entry& entry = blocks_.entry(++place_);
    if (entry.key == 0 || (entry.packed & TouchedBlocks::kLive) == 0) continue;
    const uint8_t domain = EventAttributes(entry.packed);
    AllocRecord alloc;
    alloc.time_ns = entry.time_ns;
    alloc.thread = ThreadId{entry.thread};
    alloc.domain = static_cast<Domain>(domain);
    alloc.function = static_cast<AllocFunction>(entry.packed >> 48 & 15);
    alloc.stack = StackId{entry.stack};
    alloc.address = BlockKey(entry.key, domain);
    alloc.size = EventSize(entry.packed);
    WriteAlloc(alloc);
  }
}

void Checkpoint::WriteRanges() {
  const TouchedRanges::PieceList& pieces = ranges_.pieces();
  for (uint32_t i = 0; i < kStepRecords && writer_.HasRoom(); ++i) {
    if (place_ == pieces.count()) {
      first_pass_ = false;
      const bool more_blocks = blocks_.NextPass();
      const bool more_ranges = ranges_.NextPass();
      if (more_blocks || more_ranges) return StartSegments();
      place_ = 0;
      phase_ = Phase::kThreads;
      return;
    }
    const TouchedRanges::Piece& piece = pieces[place_++];
    WriteMap(piece.map, piece.begin, piece.end);
  }
}

void Checkpoint::WriteThreads() {
  for (uint32_t i = 0; i < kStepRecords && writer_.HasRoom(); ++i) {
    if (place_ == KeptThreads::kMaxThreads) {
      place_ = 0;
      phase_ = Phase::kDropped;
      return;
    }
    const KeptThreads::Thread& thread = *threads_.thread(place_++);
    const bool needed = thread.end_ns == 0 || thread.end_ns + kThreadKeepNs > plan_.next_begin_ns;
    if (thread.id == 0 || (!needed && thread.written == 0)) continue;
    UseThread(ThreadId{thread.id});
    if (thread.end_ns == 0) continue;
    uint8_t record[kSmallRecordBytes];
    const size_t size = EncodeThreadEnd({ThreadId{thread.id}, thread.end_ns}, record);
    writer_.Encoded(record, size);
  }
}

void Checkpoint::WriteDropped() {
  for (uint32_t i = 0; i < kStepRecords && writer_.HasRoom(); ++i) {
    if (place_ == dropped_.count()) {
      samples_.Settle(old_written_bytes_, old_mapped_bytes_);
      place_ = 0;
      phase_ = Phase::kSamples;
      return;
    }
    writer_.Dropped(dropped_.record(place_++));
  }
}

void Checkpoint::WriteSamples() {
  SampleRecord sample;
  while (writer_.HasRoom()) {
    if (!samples_.Next(&place_, &sample)) {
      writer_.Encoded(memory_map_, memory_map_size_);
      gpu_.Settle();
      place_ = 0;
      phase_ = Phase::kGpu;
      return;
    }
    writer_.Sample(sample);
  }
}

void Checkpoint::WriteGpu() {
  while (writer_.HasRoom()) {
    if (place_ == gpu_.count()) {
      phase_ = Phase::kEnd;
      return;
    }
    const KeptGpu::Kept& kept = gpu_.kept(place_++);
    writer_.Encoded(kept.record, kept.size);
  }
}

// ---- Records

TouchedBlocks::Entry* Checkpoint::TouchBlock(uint64_t key, uint64_t time_ns, bool* fresh) {
  if (key == 0 || !blocks_.IsInPass(key)) return nullptr;
  TouchedBlocks::Entry* entry = blocks_.Find(key);
  if (entry != nullptr) return entry;
  entry = blocks_.Add(key);
  // A sweep has to be worth its while.
  if (entry == nullptr && no_losses_ && blocks_.ForgetPairs() >= blocks_.used() / 8) {
    entry = blocks_.Add(key);
  }
  while (entry == nullptr) {
    if (!blocks_.Narrow(event_)) {
      Fail(-ENOMEM);
      return nullptr;
    }
    if (!blocks_.IsInPass(key)) return nullptr;
    entry = blocks_.Add(key);
  }
  entry->touched_ns = time_ns;
  entry->samples = samples_seen_;
  *fresh = true;
  return entry;
}

void Checkpoint::BlockDied(const TouchedBlocks::Entry& entry, uint64_t time_ns) {
  if (!CountsBlocks()) return;
  const uint64_t size = EventSize(entry.packed);
  const uint8_t domain = EventAttributes(entry.packed);
  const bool heap = domain == static_cast<uint8_t>(Domain::kHeap);
  const SampleWeight weight = Weight(size);
  dropped_.AddPair(entry.stack, domain, size, entry.time_ns, time_ns,
                   heap && plan_.sample_bytes != 0 ? &weight : nullptr);
  if (heap) samples_.ChangeWritten(samples_seen_, 0 - weight.bytes);
}

void Checkpoint::TouchRange(uint64_t begin, uint64_t length, uint64_t time_ns,
                            const MapRecord* map) {
  const uint64_t end = begin + length;
  if (end <= begin) return;
  const auto died = [this, time_ns](const TouchedRanges::Piece& piece, uint64_t from, uint64_t to,
                                    bool whole) {
    if (!CountsRanges()) return;
    const MapRecord& gone = piece.map;
    if (CountsAsMapped(gone)) samples_.ChangeMapped(samples_seen_, from - to);
    if (whole) {
      dropped_.AddPair(static_cast<uint32_t>(gone.stack), DomainOf(gone), to - from, gone.time_ns,
                       time_ns, nullptr);
    }
  };
  if (!ranges_.Touch(begin, end, time_ns, samples_seen_, event_, map, died)) Fail(-ENOMEM);
  if (map == nullptr || !CountsAsMapped(*map) || !CountsRanges()) return;
  const PassRange& pass = ranges_.pass();
  const uint64_t from = begin < pass.begin() ? pass.begin() : begin;
  const uint64_t to = end > pass.end() ? pass.end() : end;
  if (from < to) samples_.ChangeMapped(samples_seen_, to - from);
}

void Checkpoint::OnDefinition(Tag tag, const uint8_t* payload, size_t payload_size,
                              const uint8_t* record, size_t size, bool old) {
  if (IsCopied(tag)) return Copy(tag, payload, payload_size, record, size);
  PayloadReader in(payload, payload_size);
  switch (tag) {
    case Tag::kThread: {
      const uint32_t id = static_cast<uint32_t>(in.Number());
      if (old) {
        threads_.DefineOld(id, record, size);
      } else {
        threads_.Define(id, record, size);
      }
      break;
    }
    case Tag::kThreadEnd: {
      const uint32_t id = static_cast<uint32_t>(in.Number());
      threads_.End(id, in.Number());
      break;
    }
    case Tag::kGpuLedger: {
      const uint64_t time_ns = in.Number();
      const uint32_t device = static_cast<uint32_t>(in.Number());
      gpu_.Ledger(time_ns, device, in.Byte(), record, size);
      break;
    }
    case Tag::kGpuSample: {
      const uint64_t time_ns = in.Number();
      gpu_.Sample(time_ns, static_cast<uint32_t>(in.Number()), record, size);
      break;
    }
    case Tag::kMemoryMap:
      // The last one is enough to tell what there was.
      if (size > kMemoryMapBytes || (old && memory_map_size_ != 0)) break;
      memcpy(memory_map_, record, size);
      memory_map_size_ = size;
      break;
    default:
      // Nodes are the journal's; losses are repeated in each segment; counters are written last.
      break;
  }
}

void Checkpoint::Copy(Tag tag, const uint8_t* payload, size_t payload_size, const uint8_t* record,
                      size_t size) {
  if (tag == Tag::kMessage && messages_++ >= kMaxMessages) return;
  PayloadReader in(payload, payload_size);
  if (tag == Tag::kGpuFailure) {
    if (gpu_events_++ >= kMaxGpuEvents) return;
    in.Number();  // time
    in.Byte();    // kind
    in.Byte();    // domain
    in.Number();  // status
    in.Number();  // size
    writer_.Stack(static_cast<uint32_t>(in.Number()));
  } else if (tag == Tag::kGpuImplicit) {
    if (gpu_events_++ >= kMaxGpuEvents) return;
    in.Number();  // time
    in.Number();  // context
    in.Byte();    // domain
    writer_.Stack(static_cast<uint32_t>(in.Number()));
  }
  writer_.Encoded(record, size);
}

void Checkpoint::UseThread(ThreadId id) {
  KeptThreads::Thread* const thread = threads_.Find(static_cast<uint32_t>(id));
  if (thread == nullptr || thread->size == 0 || thread->written != 0) return;
  writer_.Encoded(thread->record, thread->size);
  thread->written = 1;
}

void Checkpoint::WriteAlloc(const AllocRecord& alloc) {
  UseThread(alloc.thread);
  writer_.Alloc(alloc);
}

void Checkpoint::WriteMap(const MapRecord& map, uint64_t begin, uint64_t end) {
  UseThread(map.thread);
  MapRecord piece = map;
  piece.address = begin;
  piece.length = end - begin;
  writer_.Map(piece);
}

// ---- The end

long Checkpoint::Publish() {
  CheckpointPath(plan_.base, plan_.next, /*whole=*/true, g_path);
  const long failure = RenameOwnFile(&file_, g_path);
  if (failure != 0) return failure;
  DrainStep();
  published_ = true;
  return 0;
}

TraceFileInfo Checkpoint::Info() const {
  TraceFileInfo info;
  info.number = plan_.next;
  info.bytes = writer_.file_bytes();
  info.device = file_.device;
  info.inode = file_.inode;
  return info;
}

void Checkpoint::Close() {
  input_.Close();
  CloseOwnFile(&file_, !published_);
}

void Checkpoint::Forget() {
  input_.Close();
  CloseOwnFile(&file_, false);
}

}  // namespace ollamatrace
