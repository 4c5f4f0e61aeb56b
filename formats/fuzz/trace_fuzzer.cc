// Any bytes give records or an error. The first byte chooses how the input reaches the reader:
//   'C'  the rest is a program that assembles chunks with right checksums, garbage between them,
//   and
//        indexes that lie: what damage never gets through is reached, too
//   'R'  the rest is the records of one chunk; what was decoded is encoded and decoded again, and
//        goes through columns, which must give the same
//   'K'  the rest is a chunk's columns
//   else the input is the trace, as it lies in a file
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "formats/chunk_writer.h"
#include "formats/column_writer.h"
#include "formats/fuzz/fuzz_input.h"
#include "formats/record_decoder.h"
#include "formats/record_text.h"
#include "formats/test_trace.h"
#include "formats/trace_reader.h"

namespace ollamatrace {
namespace {

void Require(bool good, const char* what) {
  if (good) return;
  fprintf(stderr, "%s\n", what);
  abort();
}

void ReadAsTrace(absl::string_view bytes) {
  uint64_t records = 0, text_bytes = 0;
  RecordText text([&](absl::string_view line) {
    ++records;
    text_bytes += line.size();
  });
  const absl::StatusOr<ReadSummary> summary = ReadTraceBytes(bytes, text);
  if (!summary.ok()) {
    Require(summary.status().message().find('\n') == absl::string_view::npos, "not one line");
    return;
  }
  Require(summary->dropped_bytes <= bytes.size(), "dropped more than there is");
  Require(summary->notes.size() <= ReadSummary::kMaxNotes + 1, "too many notes");
  Require(summary->chunks <= bytes.size() / kIndexFrameBytes, "more chunks than there is room for");
}

std::string Chunk(absl::string_view records, uint32_t number) {
  constexpr int kLevel = 1;
  static std::vector<uint64_t>* const workspace =
      new std::vector<uint64_t>(ChunkWorkspaceBytes(kLevel) / sizeof(uint64_t) + 1);
  static ChunkWriter* const writer = [] {
    auto* result = new ChunkWriter;
    InitChunkWriter(result, workspace->data(), workspace->size() * sizeof(uint64_t), kLevel);
    return result;
  }();
  std::string out(ChunkBound(records.size()), '\0');
  const size_t size =
      WriteChunk(writer, number, {}, reinterpret_cast<const uint8_t*>(records.data()),
                 records.size(), reinterpret_cast<uint8_t*>(out.data()), out.size());
  out.resize(size);
  return out;
}

void ChangeIndex(std::string& chunk, FuzzInput& in) {
  auto* const frame = reinterpret_cast<uint8_t*>(chunk.data());
  ChunkIndex index;
  if (chunk.empty() ||
      GetIndex(frame + kSkippableHeaderBytes, kIndexPayloadBytes, &index) != IndexResult::kOk) {
    return;
  }
  switch (in.Byte() % 5) {
    case 0:
      index.raw_bytes += static_cast<uint32_t>(in.Number(4));
      break;
    case 1:
      index.frame_bytes += static_cast<uint32_t>(in.Number(4));
      break;
    case 2:
      index.kind = static_cast<uint16_t>(in.Number(2));
      break;
    case 3:
      index.number = static_cast<uint32_t>(in.Number(4));
      break;
    default:
      index.version = static_cast<uint16_t>(in.Number(2));
  }
  PutIndexFrame(index, frame);
}

void ReadAssembled(FuzzInput in) {
  std::string trace;
  for (uint32_t number = 0; !in.empty(); ++number) {
    const uint8_t operation = in.Byte();
    const absl::string_view bytes = in.Bytes(in.Number(operation % 2 == 0 ? 1 : 2));
    std::string chunk = Chunk(bytes, number);
    switch (operation / 2 % 4) {
      case 0:
        break;
      case 1:
        chunk = std::string(bytes);
        break;
      case 2:
        ChangeIndex(chunk, in);
        break;
      default: {
        const size_t at = in.Number(2);
        if (at < chunk.size()) chunk[at] = static_cast<char>(in.Byte());
      }
    }
    trace += chunk;
  }
  ReadAsTrace(trace);
}

// Tells both where a record comes from and a builder what it is.
class Copying : public TraceVisitor {
 public:
  void OnHeader(const HeaderRecord& record) override { builder.Add(record); }
  void OnModule(const ModuleRecord& record) override { builder.Add(record); }
  void OnModuleUnload(const ModuleUnloadRecord& record) override { builder.Add(record); }
  void OnThread(const ThreadRecord& record) override { builder.Add(record); }
  void OnThreadEnd(const ThreadEndRecord& record) override { builder.Add(record); }
  void OnNode(const NodeRecord& record) override { builder.Add(record); }
  void OnAlloc(const AllocRecord& record) override { builder.Add(record); }
  void OnFree(const FreeRecord& record) override { builder.Add(record); }
  void OnMap(const MapRecord& record) override { builder.Add(record); }
  void OnUnmap(const UnmapRecord& record) override { builder.Add(record); }
  void OnCounters(const CountersRecord& record) override { builder.Add(record); }
  void OnWeights(const WeightsRecord& record) override { builder.Add(record); }
  void OnSample(const SampleRecord& record) override { builder.Add(record); }
  void OnMemoryMap(const MemoryMapRecord& record) override { builder.Add(record); }
  void OnLoss(const LossRecord& record) override { builder.Add(record); }
  void OnMessage(const MessageRecord& record) override { builder.Add(record); }
  void OnGpuPlace(const GpuPlaceRecord& record) override { builder.Add(record); }
  void OnGpuCapture(const GpuCaptureRecord& record) override { builder.Add(record); }
  void OnGpuFailure(const GpuFailureRecord& record) override { builder.Add(record); }
  void OnGpuImplicit(const GpuImplicitRecord& record) override { builder.Add(record); }
  void OnGpuLedger(const GpuLedgerRecord& record) override { builder.Add(record); }
  void OnGpuSample(const GpuSampleRecord& record) override { builder.Add(record); }
  void OnEnd(const EndRecord& record) override { builder.Add(record); }

  std::string first_lines;
  RecordText text{[this](absl::string_view line) {
    first_lines.append(line.data(), line.size());
    first_lines += '\n';
  }};
  TraceBuilder builder{&text};
};

// The lines of records, with the nodes apart, since they come early from columns, and the times of
// the heap's events in the columns' units.
class Sorted : public TraceVisitor {
 public:
  explicit Sorted(std::vector<std::string>& lines) : lines_(lines) {}
  void OnHeader(const HeaderRecord& record) override { Add(2, &TraceVisitor::OnHeader, record); }
  void OnModule(const ModuleRecord& record) override { Add(2, &TraceVisitor::OnModule, record); }
  void OnThread(const ThreadRecord& record) override { Add(2, &TraceVisitor::OnThread, record); }
  void OnNode(const NodeRecord& record) override { Add(1, &TraceVisitor::OnNode, record); }
  void OnAlloc(const AllocRecord& record) override {
    AllocRecord alloc = record;
    if (alloc.domain == Domain::kHeap) alloc.time_ns = Rounded(alloc.time_ns);
    Add(2, &TraceVisitor::OnAlloc, alloc);
  }
  void OnFree(const FreeRecord& record) override {
    FreeRecord free = record;
    if (free.domain == Domain::kHeap) free.time_ns = Rounded(free.time_ns);
    Add(2, &TraceVisitor::OnFree, free);
  }
  void OnMap(const MapRecord& record) override { Add(2, &TraceVisitor::OnMap, record); }
  void OnUnmap(const UnmapRecord& record) override { Add(2, &TraceVisitor::OnUnmap, record); }
  void OnSample(const SampleRecord& record) override { Add(2, &TraceVisitor::OnSample, record); }
  void OnEnd(const EndRecord& record) override { Add(2, &TraceVisitor::OnEnd, record); }

 private:
  static uint64_t Rounded(uint64_t time_ns) {
    return time_ns >> kColumnTimeShift << kColumnTimeShift;
  }
  template <typename Record>
  void Add(size_t place, void (TraceVisitor::*tell)(const Record&), const Record& record) {
    place_ = place - 1;
    (text_.*tell)(record);
  }

  std::vector<std::string>& lines_;
  size_t place_ = 0;
  RecordText text_{[this](absl::string_view line) {
    lines_[place_].append(line.data(), line.size());
    lines_[place_] += '\n';
  }};
};

void ReadThroughColumns(const std::string& records) {
  const std::string columns = ColumnsOf(records);
  if (columns.empty()) return;
  std::vector<std::string> before(2), after(2);
  Sorted sorted_before(before), sorted_after(after);
  RecordDecoder(sorted_before).Decode(records).IgnoreError();
  Require(RecordDecoder(sorted_after).DecodeColumns(columns).ok(), "columns that cannot be read");
  Require(before == after, "other records came back from columns");
}

void ReadAsRecords(absl::string_view bytes) {
  // Longer texts are cut when they are written again.
  if (bytes.size() > kMaxNameBytes * 8) bytes = bytes.substr(0, kMaxNameBytes * 8);
  Copying copying;
  RecordDecoder(copying).Decode(bytes).IgnoreError();
  std::string again;
  bool cut = false;
  RecordText text([&](absl::string_view line) {
    again.append(line.data(), line.size());
    again += '\n';
  });
  RecordDecoder decoder(text);
  Require(decoder.Decode(copying.builder.records()).ok(), "what was encoded is no record");
  cut = again.size() < copying.first_lines.size();
  Require(cut || again == copying.first_lines, "another record came back");
  if (!cut) ReadThroughColumns(copying.builder.records());
}

void ReadAsColumns(absl::string_view columns) {
  uint64_t text_bytes = 0;
  RecordText text([&](absl::string_view line) { text_bytes += line.size(); });
  RecordDecoder(text).DecodeColumns(columns).IgnoreError();
}

}  // namespace
}  // namespace ollamatrace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (size != 0 && data[0] == 'C') {
    ollamatrace::ReadAssembled(ollamatrace::FuzzInput(bytes.substr(1)));
  } else if (size != 0 && data[0] == 'R') {
    ollamatrace::ReadAsRecords(bytes.substr(1));
  } else if (size != 0 && data[0] == 'K') {
    ollamatrace::ReadAsColumns(bytes.substr(1));
  } else {
    ollamatrace::ReadAsTrace(bytes);
  }
  return 0;
}
