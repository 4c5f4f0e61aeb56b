#include "formats/record_decoder.h"

#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "formats/varint.h"

namespace ollamatrace {

// Takes fields from the front of some bytes. The first field that is not there or impossible makes
// it bad for good; fields are 0 or empty from then on.
class RecordDecoder::Cursor {
 public:
  Cursor(const uint8_t* begin, const uint8_t* end) : next_(begin), end_(end) {}

  bool ok() const { return ok_; }
  const uint8_t* next() const { return next_; }
  size_t left() const { return static_cast<size_t>(end_ - next_); }

  uint8_t Byte() {
    if (!ok_ || next_ == end_) return Bad();
    return *next_++;
  }
  uint64_t Number() {
    uint64_t value = 0;
    if (!ok_ || !GetVarint(&next_, end_, &value)) return Bad();
    return value;
  }
  uint32_t Number32() {
    const uint64_t value = Number();
    if (value > std::numeric_limits<uint32_t>::max()) return Bad();
    return static_cast<uint32_t>(value);
  }
  uint64_t Delta(uint64_t base) { return base + UnZigZag(Number()); }
  uint32_t Delta32(uint32_t base) {
    const uint64_t value = Delta(base);
    if (value > std::numeric_limits<uint32_t>::max()) return Bad();
    return static_cast<uint32_t>(value);
  }
  absl::string_view Bytes(uint64_t size) {
    if (!ok_ || size > left()) {
      Bad();
      return {};
    }
    const absl::string_view bytes(reinterpret_cast<const char*>(next_), size);
    next_ += size;
    return bytes;
  }
  Text String() {
    const absl::string_view bytes = Bytes(Number());
    return {bytes.data(), bytes.size()};
  }
  uint8_t Bad() {
    ok_ = false;
    return 0;
  }

 private:
  const uint8_t* next_;
  const uint8_t* const end_;
  bool ok_ = true;
};

absl::Status RecordDecoder::DeliverSubstituteHeader() {
  const absl::string_view record = substitute_header_;
  substitute_header_ = {};
  return Decode(record);
}

absl::Status RecordDecoder::Decode(absl::string_view bytes) {
  const uint8_t* const begin = reinterpret_cast<const uint8_t*>(bytes.data());
  Cursor in(begin, begin + bytes.size());
  while (in.left() != 0) {
    const size_t offset = static_cast<size_t>(in.next() - begin);
    const uint8_t tag = in.Byte();
    const auto bad = [&] {
      return absl::DataLossError(
          absl::StrCat("bad record of kind 0x", absl::Hex(tag), " at byte ", offset));
    };
    if (!header_seen_ && !substitute_header_.empty() && tag != static_cast<uint8_t>(Tag::kHeader)) {
      // That the substitute is bad, too, costs the header alone.
      DeliverSubstituteHeader().IgnoreError();
    }
    if (tag < static_cast<uint8_t>(Tag::kLengthPrefixed)) {
      DecodeEvent(tag, in);
      if (!in.ok()) return bad();
      continue;
    }
    const absl::string_view payload = in.Bytes(in.Number());
    if (!in.ok()) return bad();
    const uint8_t* const start = reinterpret_cast<const uint8_t*>(payload.data());
    // Fields that a later version appended stay unread.
    Cursor fields(start, start + payload.size());
    absl::Status status = DecodePayload(tag, fields);
    if (!status.ok()) return status;
    if (!fields.ok()) return bad();
  }
  return absl::OkStatus();
}

void TraceVisitor::OnHeapEvents(const ColumnReader& columns) {
  for (uint32_t i = 0; i < columns.count(); ++i) {
    const ColumnEvent& event = columns.events()[i];
    const ThreadId thread{event.thread};
    switch (event.kind) {
      case ColumnEvent::Kind::kAlloc: {
        const ColumnEntry& entry = columns.entry(event.entry);
        OnAlloc({event.time_ns, thread, Domain::kHeap, static_cast<AllocFunction>(entry.function),
                 StackId{entry.stack}, event.address, event.size});
        break;
      }
      case ColumnEvent::Kind::kFree:
        OnFree({event.time_ns, thread, Domain::kHeap, event.address});
        break;
      case ColumnEvent::Kind::kReplaced:
        break;
    }
  }
}

absl::Status RecordDecoder::DecodeColumns(absl::string_view bytes) {
  if (columns_ == nullptr) columns_ = std::make_unique_for_overwrite<ColumnReader>();
  ColumnReader& columns = *columns_;
  columns.Start(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  const auto deliver = [&]() -> absl::Status {
    while (true) {
      const ColumnReader::Got got = columns.Next();
      if (got == ColumnReader::Got::kEnd) return absl::OkStatus();
      if (got == ColumnReader::Got::kBad) return absl::DataLossError("bad columns");
      if (got == ColumnReader::Got::kRecords) {
        StartChunk();
        absl::Status status = Decode(absl::string_view(
            reinterpret_cast<const char*>(columns.records()), columns.record_bytes()));
        if (!status.ok()) return status;
        continue;
      }
      if (!header_seen_ && !substitute_header_.empty()) DeliverSubstituteHeader().IgnoreError();
      if (got == ColumnReader::Got::kNodes) {
        for (uint32_t i = 0; i < columns.count(); ++i) visitor_.OnNode(columns.nodes()[i]);
        continue;
      }
      for (uint32_t i = 0; i < columns.count(); ++i) Saw(columns.events()[i].time_ns);
      visitor_.OnHeapEvents(columns);
    }
  };
  absl::Status status = deliver();
  visitor_.OnColumnsEnd(columns);
  return status;
}

void RecordDecoder::DecodeEvent(uint8_t tag, Cursor& in) {
  switch (static_cast<Tag>(tag)) {
    case Tag::kReset:
      state_ = {};
      return;
    case Tag::kTimeThread:
      state_.time_ns = in.Delta(state_.time_ns);
      state_.thread = in.Number32();
      if (in.ok()) Saw(state_.time_ns);
      return;
    case Tag::kAlloc: {
      AllocRecord record;
      record.time_ns = state_.time_ns;
      record.thread = ThreadId{state_.thread};
      record.domain = static_cast<Domain>(in.Byte());
      record.function = static_cast<AllocFunction>(in.Byte());
      record.address = state_.address = in.Delta(state_.address);
      record.size = in.Number();
      state_.stack = in.Delta32(state_.stack);
      record.stack = StackId{state_.stack};
      if (in.ok()) visitor_.OnAlloc(record);
      return;
    }
    case Tag::kFree: {
      FreeRecord record;
      record.time_ns = state_.time_ns;
      record.thread = ThreadId{state_.thread};
      record.domain = static_cast<Domain>(in.Byte());
      record.address = state_.address = in.Delta(state_.address);
      if (in.ok()) visitor_.OnFree(record);
      return;
    }
    case Tag::kMap: {
      MapRecord record;
      record.time_ns = state_.time_ns;
      record.thread = ThreadId{state_.thread};
      record.function = static_cast<AllocFunction>(in.Byte());
      record.protection = in.Byte();
      record.kind = in.Byte();
      record.address = state_.address = in.Delta(state_.address);
      record.length = in.Number();
      state_.stack = in.Delta32(state_.stack);
      record.stack = StackId{state_.stack};
      if (in.ok()) visitor_.OnMap(record);
      return;
    }
    case Tag::kUnmap: {
      UnmapRecord record;
      record.time_ns = state_.time_ns;
      record.thread = ThreadId{state_.thread};
      record.address = state_.address = in.Delta(state_.address);
      record.length = in.Number();
      if (in.ok()) visitor_.OnUnmap(record);
      return;
    }
    default:
      // Without a length it cannot be skipped.
      in.Bad();
  }
}

absl::Status RecordDecoder::DecodePayload(uint8_t tag, Cursor& in) {
  switch (static_cast<Tag>(tag)) {
    case Tag::kHeader: {
      HeaderRecord record;
      const absl::string_view magic = in.Bytes(sizeof(kTraceMagic));
      if (in.ok() && memcmp(magic.data(), kTraceMagic, sizeof(kTraceMagic)) != 0) in.Bad();
      record.version = in.Number32();
      if (in.ok() && record.version > kTraceVersion) {
        return absl::FailedPreconditionError(absl::StrCat(
            "format version ", record.version, " is newer than this reader's ", kTraceVersion));
      }
      record.pid = in.Number32();
      record.ppid = in.Number32();
      record.start_ns = in.Number();
      record.wall_ns = in.Number();
      record.process_start = in.Number();
      record.mode = static_cast<Mode>(in.Byte());
      record.sample_bytes = in.Number();
      record.page_bytes = in.Number32();
      record.segment = in.Number32();
      record.born_by_fork = in.Byte();
      record.exe = in.String();
      record.argv = in.String();
      record.library = in.String();
      record.architecture = in.String();
      record.segment_ns = in.Number();
      if (in.ok()) {
        Saw(record.start_ns);
        if (!header_seen_) visitor_.OnHeader(record);
        header_seen_ = true;
      }
      break;
    }
    case Tag::kModule: {
      ModuleRecord record;
      record.id = ModuleId{in.Number32()};
      record.time_ns = in.Number();
      record.bias = in.Number();
      record.begin = in.Number();
      record.end = in.Number();
      record.build_id = in.String();
      record.path = in.String();
      if (in.ok()) visitor_.OnModule(record);
      break;
    }
    case Tag::kModuleUnload: {
      ModuleUnloadRecord record;
      record.id = ModuleId{in.Number32()};
      record.time_ns = in.Number();
      if (in.ok()) visitor_.OnModuleUnload(record);
      break;
    }
    case Tag::kThread: {
      ThreadRecord record;
      record.id = ThreadId{in.Number32()};
      record.time_ns = in.Number();
      record.tid = in.Number32();
      record.name = in.String();
      if (in.ok()) visitor_.OnThread(record);
      break;
    }
    case Tag::kThreadEnd: {
      ThreadEndRecord record;
      record.id = ThreadId{in.Number32()};
      record.time_ns = in.Number();
      if (in.ok()) visitor_.OnThreadEnd(record);
      break;
    }
    case Tag::kNode: {
      NodeRecord record;
      record.id = StackId{in.Number32()};
      record.parent = StackId{in.Number32()};
      record.module = ModuleId{in.Number32()};
      record.address = in.Number();
      record.exact = in.Byte();
      if (in.ok()) visitor_.OnNode(record);
      break;
    }
    case Tag::kCounters: {
      CountersRecord record;
      record.stack = StackId{in.Number32()};
      record.domain = static_cast<Domain>(in.Byte());
      record.pairs = in.Number();
      record.bytes = in.Number();
      record.lifetime_ns = in.Number();
      record.peak_bytes = in.Number();
      record.first_ns = in.Number();
      record.last_ns = in.Number();
      if (in.ok()) visitor_.OnCounters(record);
      break;
    }
    case Tag::kWeights: {
      WeightsRecord record;
      record.stack = StackId{in.Number32()};
      record.domain = static_cast<Domain>(in.Byte());
      record.blocks = in.Number();
      record.bytes = in.Number();
      record.blocks_variance = in.Number();
      record.bytes_variance = in.Number();
      if (in.ok()) visitor_.OnWeights(record);
      break;
    }
    case Tag::kSample: {
      SampleRecord record;
      record.time_ns = in.Number();
      // 0 is kUnknownGauge.
      for (uint64_t SampleRecord::*const gauge : kGauges) record.*gauge = in.Number() - 1;
      if (in.ok()) {
        Saw(record.time_ns);
        visitor_.OnSample(record);
      }
      break;
    }
    case Tag::kMemoryMap: {
      MemoryMapRecord record;
      record.time_ns = in.Number();
      record.body = in.String();
      if (in.ok()) {
        Saw(record.time_ns);
        visitor_.OnMemoryMap(record);
      }
      break;
    }
    case Tag::kLoss: {
      LossRecord record;
      record.time_ns = in.Number();
      record.kind = static_cast<LossKind>(in.Byte());
      record.events = in.Number();
      if (in.ok()) visitor_.OnLoss(record);
      break;
    }
    case Tag::kMessage: {
      MessageRecord record;
      record.time_ns = in.Number();
      record.text = in.String();
      if (in.ok()) visitor_.OnMessage(record);
      break;
    }
    case Tag::kEnd: {
      EndRecord record;
      record.time_ns = in.Number();
      record.kind = static_cast<EndKind>(in.Byte());
      if (in.ok()) {
        end_seen_ = record.kind != EndKind::kSegment;
        Saw(record.time_ns);
        visitor_.OnEnd(record);
      }
      break;
    }
    case Tag::kGpuPlace: {
      GpuPlaceRecord record;
      record.id = in.Number32();
      record.device = in.Number32() - 1;  // 0 is kNoDevice
      record.context = in.Number32();
      record.stream = in.Number();
      record.function = in.String();
      if (in.ok()) visitor_.OnGpuPlace(record);
      break;
    }
    case Tag::kGpuCapture: {
      GpuCaptureRecord record;
      record.time_ns = in.Number();
      record.state = static_cast<GpuCaptureState>(in.Byte());
      record.reason = in.String();
      record.where = in.String();
      if (in.ok()) visitor_.OnGpuCapture(record);
      break;
    }
    case Tag::kGpuFailure: {
      GpuFailureRecord record;
      record.time_ns = in.Number();
      record.kind = static_cast<GpuFailureKind>(in.Byte());
      record.domain = static_cast<Domain>(in.Byte());
      record.status = in.Number32();
      record.size = in.Number();
      record.stack = StackId{in.Number32()};
      if (in.ok()) visitor_.OnGpuFailure(record);
      break;
    }
    case Tag::kGpuImplicit: {
      GpuImplicitRecord record;
      record.time_ns = in.Number();
      record.context = in.Number32();
      record.domain = static_cast<Domain>(in.Byte());
      record.stack = StackId{in.Number32()};
      record.blocks = in.Number();
      record.bytes = in.Number();
      if (in.ok()) visitor_.OnGpuImplicit(record);
      break;
    }
    case Tag::kGpuLedger: {
      GpuLedgerRecord record;
      record.time_ns = in.Number();
      record.device = in.Number32() - 1;
      record.domain = static_cast<Domain>(in.Byte());
      record.live_bytes = in.Number();
      record.live_blocks = in.Number();
      record.peak_bytes = in.Number();
      if (in.ok()) visitor_.OnGpuLedger(record);
      break;
    }
    case Tag::kGpuSample: {
      GpuSampleRecord record;
      record.time_ns = in.Number();
      record.device = in.Number32() - 1;
      record.process_bytes = in.Number() - 1;  // 0 is kUnknownGauge
      record.used_bytes = in.Number() - 1;
      record.total_bytes = in.Number() - 1;
      record.contexts = in.Number32();
      record.modules = in.Number();
      record.module_bytes = in.Number();
      if (in.ok()) visitor_.OnGpuSample(record);
      break;
    }
    case Tag::kDropped: {
      DroppedRecord record;
      record.stack = StackId{in.Number32()};
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
      if (in.ok()) visitor_.OnDropped(record);
      break;
    }
    default:
      ++unknown_records_;
  }
  return absl::OkStatus();
}

}  // namespace ollamatrace
