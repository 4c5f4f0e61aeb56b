#include "formats/encode.h"

#include <cstring>
#include <initializer_list>

#include "formats/varint.h"

namespace ollamatrace {
namespace {

template <typename Enum>
constexpr uint8_t Byte(Enum value) {
  return static_cast<uint8_t>(value);
}

uint8_t* PutDelta(uint8_t* out, uint64_t value, uint64_t base) {
  return PutVarint(out, ZigZag(value - base));
}

uint8_t* PutText(uint8_t* out, const Text& text, size_t limit) {
  const size_t size = text.size < limit ? text.size : limit;
  out = PutVarint(out, size);
  if (size != 0) memcpy(out, text.data, size);
  return out + size;
}

// One more than the ordinal: 0 is kNoDevice.
uint8_t* PutDevice(uint8_t* out, uint32_t device) { return PutVarint(out, uint32_t{device + 1}); }

// Reset when the chunk has none yet, TimeThread when the time or the thread differs from the record
// before.
uint8_t* PutMoment(DeltaState* state, uint64_t time_ns, ThreadId thread, uint8_t* out) {
  const uint32_t thread_number = static_cast<uint32_t>(thread);
  ChunkStats* stats = &state->stats;
  if (state->started == 0) {
    state->started = 1;
    *out++ = Byte(Tag::kReset);
  }
  if (stats->events == 0 || time_ns < stats->first_ns) stats->first_ns = time_ns;
  if (stats->events == 0 || time_ns > stats->last_ns) stats->last_ns = time_ns;
  ++stats->events;
  if (time_ns != state->time_ns || thread_number != state->thread) {
    *out++ = Byte(Tag::kTimeThread);
    out = PutDelta(out, time_ns, state->time_ns);
    out = PutVarint(out, thread_number);
    state->time_ns = time_ns;
    state->thread = thread_number;
  }
  return out;
}

uint8_t* PutAddress(DeltaState* state, uint64_t address, uint8_t* out) {
  out = PutDelta(out, address, state->address);
  state->address = address;
  return out;
}

uint8_t* PutStack(DeltaState* state, StackId stack, uint8_t* out) {
  out = PutDelta(out, static_cast<uint32_t>(stack), state->stack);
  state->stack = static_cast<uint32_t>(stack);
  return out;
}

// A record with a length: begin with the place that its payload is first written to, end by moving
// the payload behind its length, whose own size is known only then.
constexpr size_t kLengthRoom = 4;

uint8_t* Payload(uint8_t* out) { return out + 1 + kLengthRoom; }

size_t Close(Tag tag, uint8_t* out, const uint8_t* payload_end) {
  const uint8_t* payload = Payload(out);
  const size_t size = static_cast<size_t>(payload_end - payload);
  *out = Byte(tag);
  uint8_t* place = PutVarint(out + 1, size);
  memmove(place, payload, size);
  return static_cast<size_t>(place - out) + size;
}

}  // namespace

size_t EncodeAlloc(DeltaState* state, const AllocRecord& record, uint8_t* out) {
  uint8_t* p = PutMoment(state, record.time_ns, record.thread, out);
  *p++ = Byte(Tag::kAlloc);
  *p++ = Byte(record.domain);
  *p++ = Byte(record.function);
  p = PutAddress(state, record.address, p);
  p = PutVarint(p, record.size);
  p = PutStack(state, record.stack, p);
  return static_cast<size_t>(p - out);
}

size_t EncodeFree(DeltaState* state, const FreeRecord& record, uint8_t* out) {
  uint8_t* p = PutMoment(state, record.time_ns, record.thread, out);
  *p++ = Byte(Tag::kFree);
  *p++ = Byte(record.domain);
  p = PutAddress(state, record.address, p);
  return static_cast<size_t>(p - out);
}

size_t EncodeMap(DeltaState* state, const MapRecord& record, uint8_t* out) {
  uint8_t* p = PutMoment(state, record.time_ns, record.thread, out);
  *p++ = Byte(Tag::kMap);
  *p++ = Byte(record.function);
  *p++ = record.protection;
  *p++ = record.kind;
  p = PutAddress(state, record.address, p);
  p = PutVarint(p, record.length);
  p = PutStack(state, record.stack, p);
  return static_cast<size_t>(p - out);
}

size_t EncodeUnmap(DeltaState* state, const UnmapRecord& record, uint8_t* out) {
  uint8_t* p = PutMoment(state, record.time_ns, record.thread, out);
  *p++ = Byte(Tag::kUnmap);
  p = PutAddress(state, record.address, p);
  p = PutVarint(p, record.length);
  return static_cast<size_t>(p - out);
}

size_t EncodeHeader(const HeaderRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  memcpy(p, kTraceMagic, sizeof(kTraceMagic));
  p += sizeof(kTraceMagic);
  p = PutVarint(p, record.version);
  p = PutVarint(p, record.pid);
  p = PutVarint(p, record.ppid);
  p = PutVarint(p, record.start_ns);
  p = PutVarint(p, record.wall_ns);
  p = PutVarint(p, record.process_start);
  *p++ = Byte(record.mode);
  p = PutVarint(p, record.sample_bytes);
  p = PutVarint(p, record.page_bytes);
  p = PutVarint(p, record.segment);
  *p++ = record.born_by_fork;
  p = PutText(p, record.exe, kMaxPathBytes);
  p = PutText(p, record.argv, kMaxArgvBytes);
  p = PutText(p, record.library, kMaxNameBytes);
  p = PutText(p, record.architecture, kMaxNameBytes);
  p = PutVarint(p, record.segment_ns);
  return Close(Tag::kHeader, out, p);
}

size_t EncodeModule(const ModuleRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, static_cast<uint32_t>(record.id));
  p = PutVarint(p, record.time_ns);
  p = PutVarint(p, record.bias);
  p = PutVarint(p, record.begin);
  p = PutVarint(p, record.end);
  p = PutText(p, record.build_id, kMaxBuildIdBytes);
  p = PutText(p, record.path, kMaxPathBytes);
  return Close(Tag::kModule, out, p);
}

size_t EncodeModuleUnload(const ModuleUnloadRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, static_cast<uint32_t>(record.id));
  p = PutVarint(p, record.time_ns);
  return Close(Tag::kModuleUnload, out, p);
}

size_t EncodeThread(const ThreadRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, static_cast<uint32_t>(record.id));
  p = PutVarint(p, record.time_ns);
  p = PutVarint(p, record.tid);
  p = PutText(p, record.name, kMaxNameBytes);
  return Close(Tag::kThread, out, p);
}

size_t EncodeThreadEnd(const ThreadEndRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, static_cast<uint32_t>(record.id));
  p = PutVarint(p, record.time_ns);
  return Close(Tag::kThreadEnd, out, p);
}

size_t EncodeNode(const NodeRecord& record, uint8_t* out) {
  // The one frequent record of this kind: its length is always one byte, so its payload needs no
  // moving.
  static_assert(4 * kMaxVarint32Bytes + kMaxVarintBytes + 1 < 0x80);
  uint8_t* const payload = out + 2;
  uint8_t* p = payload;
  p = PutVarint(p, static_cast<uint32_t>(record.id));
  p = PutVarint(p, static_cast<uint32_t>(record.parent));
  p = PutVarint(p, static_cast<uint32_t>(record.module));
  p = PutVarint(p, record.address);
  *p++ = record.exact;
  out[0] = Byte(Tag::kNode);
  out[1] = static_cast<uint8_t>(p - payload);
  return static_cast<size_t>(p - out);
}

size_t EncodeCounters(const CountersRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, static_cast<uint32_t>(record.stack));
  *p++ = Byte(record.domain);
  p = PutVarint(p, record.pairs);
  p = PutVarint(p, record.bytes);
  p = PutVarint(p, record.lifetime_ns);
  p = PutVarint(p, record.peak_bytes);
  p = PutVarint(p, record.first_ns);
  p = PutVarint(p, record.last_ns);
  return Close(Tag::kCounters, out, p);
}

size_t EncodeWeights(const WeightsRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, static_cast<uint32_t>(record.stack));
  *p++ = Byte(record.domain);
  p = PutVarint(p, record.blocks);
  p = PutVarint(p, record.bytes);
  p = PutVarint(p, record.blocks_variance);
  p = PutVarint(p, record.bytes_variance);
  return Close(Tag::kWeights, out, p);
}

size_t EncodeSample(const SampleRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, record.time_ns);
  // One more than the gauge: 0, the cheapest, is "unknown".
  for (uint64_t SampleRecord::*const gauge : kGauges) p = PutVarint(p, record.*gauge + 1);
  return Close(Tag::kSample, out, p);
}

size_t EncodeMemoryMap(const MemoryMapRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, record.time_ns);
  p = PutText(p, record.body, kMaxMemoryMapBytes);
  return Close(Tag::kMemoryMap, out, p);
}

size_t EncodeLoss(const LossRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, record.time_ns);
  *p++ = Byte(record.kind);
  p = PutVarint(p, record.events);
  return Close(Tag::kLoss, out, p);
}

size_t EncodeMessage(const MessageRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, record.time_ns);
  p = PutText(p, record.text, kMaxMessageBytes);
  return Close(Tag::kMessage, out, p);
}

size_t EncodeGpuPlace(const GpuPlaceRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, record.id);
  p = PutDevice(p, record.device);
  p = PutVarint(p, record.context);
  p = PutVarint(p, record.stream);
  p = PutText(p, record.function, kMaxFunctionBytes);
  return Close(Tag::kGpuPlace, out, p);
}

size_t EncodeGpuCapture(const GpuCaptureRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, record.time_ns);
  *p++ = Byte(record.state);
  p = PutText(p, record.reason, kMaxMessageBytes);
  p = PutText(p, record.where, kMaxMessageBytes);
  return Close(Tag::kGpuCapture, out, p);
}

size_t EncodeGpuFailure(const GpuFailureRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, record.time_ns);
  *p++ = Byte(record.kind);
  *p++ = Byte(record.domain);
  p = PutVarint(p, record.status);
  p = PutVarint(p, record.size);
  p = PutVarint(p, static_cast<uint32_t>(record.stack));
  return Close(Tag::kGpuFailure, out, p);
}

size_t EncodeGpuImplicit(const GpuImplicitRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, record.time_ns);
  p = PutVarint(p, record.context);
  *p++ = Byte(record.domain);
  p = PutVarint(p, static_cast<uint32_t>(record.stack));
  p = PutVarint(p, record.blocks);
  p = PutVarint(p, record.bytes);
  return Close(Tag::kGpuImplicit, out, p);
}

size_t EncodeGpuLedger(const GpuLedgerRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, record.time_ns);
  p = PutDevice(p, record.device);
  *p++ = Byte(record.domain);
  p = PutVarint(p, record.live_bytes);
  p = PutVarint(p, record.live_blocks);
  p = PutVarint(p, record.peak_bytes);
  return Close(Tag::kGpuLedger, out, p);
}

size_t EncodeGpuSample(const GpuSampleRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, record.time_ns);
  p = PutDevice(p, record.device);
  // As the gauges of a Sample.
  p = PutVarint(p, record.process_bytes + 1);
  p = PutVarint(p, record.used_bytes + 1);
  p = PutVarint(p, record.total_bytes + 1);
  p = PutVarint(p, record.contexts);
  p = PutVarint(p, record.modules);
  p = PutVarint(p, record.module_bytes);
  return Close(Tag::kGpuSample, out, p);
}

size_t EncodeEnd(const EndRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, record.time_ns);
  *p++ = Byte(record.kind);
  return Close(Tag::kEnd, out, p);
}

size_t EncodeDropped(const DroppedRecord& record, uint8_t* out) {
  uint8_t* p = Payload(out);
  p = PutVarint(p, static_cast<uint32_t>(record.stack));
  *p++ = Byte(record.domain);
  p = PutVarint(p, record.pairs);
  p = PutVarint(p, record.bytes);
  p = PutVarint(p, record.lifetime_ns);
  p = PutVarint(p, record.first_ns);
  p = PutVarint(p, record.last_ns);
  p = PutVarint(p, record.weight_blocks);
  p = PutVarint(p, record.weight_bytes);
  p = PutVarint(p, record.weight_blocks_variance);
  p = PutVarint(p, record.weight_bytes_variance);
  return Close(Tag::kDropped, out, p);
}

size_t EncodeSegmentHeader(const uint8_t* header, size_t size, uint32_t segment,
                           uint64_t segment_ns, uint8_t* out) {
  const uint8_t* in = header;
  const uint8_t* const end = header + size;
  uint64_t number = 0;
  if (size == 0 || size > kHeaderBytes || *in++ != Byte(Tag::kHeader) ||
      !GetVarint(&in, end, &number) || number != static_cast<size_t>(end - in) ||
      number < sizeof(kTraceMagic)) {
    return 0;
  }
  uint8_t* p = Payload(out);
  const auto copy_until = [&p, &in](const uint8_t* from) {
    memcpy(p, from, static_cast<size_t>(in - from));
    p += in - from;
  };
  // Up to page_bytes, then the segment's number, then all but the last field.
  const uint8_t* from = in;
  in += sizeof(kTraceMagic);
  for (int field = 0; field < 6; ++field) {
    if (!GetVarint(&in, end, &number)) return 0;
  }
  if (in == end) return 0;
  ++in;  // mode
  for (int field = 0; field < 2; ++field) {
    if (!GetVarint(&in, end, &number)) return 0;
  }
  copy_until(from);
  if (!GetVarint(&in, end, &number)) return 0;
  p = PutVarint(p, segment);
  from = in;
  if (in == end) return 0;
  ++in;  // born_by_fork
  for (int text = 0; text < 4; ++text) {
    if (!GetVarint(&in, end, &number) || number > static_cast<size_t>(end - in)) return 0;
    in += number;
  }
  copy_until(from);
  p = PutVarint(p, segment_ns);
  return Close(Tag::kHeader, out, p);
}

}  // namespace ollamatrace
