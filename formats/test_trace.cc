#include "formats/test_trace.h"

#include <cstring>
#include <limits>

#include "formats/chunk_writer.h"
#include "formats/column_writer.h"

namespace ollamatrace {

std::string ChunkOf(absl::string_view records, uint32_t number, const ChunkStats& stats) {
  constexpr int kLevel = 3;
  std::vector<uint64_t> workspace(ChunkWorkspaceBytes(kLevel) / sizeof(uint64_t) + 1);
  std::vector<uint8_t> out(ChunkBound(records.size()));
  ChunkWriter writer;
  InitChunkWriter(&writer, workspace.data(), workspace.size() * sizeof(uint64_t), kLevel);
  const size_t size =
      WriteChunk(&writer, number, stats, reinterpret_cast<const uint8_t*>(records.data()),
                 records.size(), out.data(), out.size());
  return std::string(reinterpret_cast<const char*>(out.data()), size);
}

namespace {

ColumnWriter& Columns() {
  static ColumnWriter* const writer = [] {
    auto* result = new ColumnWriter;
    // Any memory will do.
    memset(static_cast<void*>(result), 0xa5, sizeof(ColumnWriter));
    return result;
  }();
  return *writer;
}

}  // namespace

std::string ColumnsOf(absl::string_view records) {
  std::string out(records.size(), '\0');
  out.resize(Columns().Write(reinterpret_cast<const uint8_t*>(records.data()), records.size(),
                             reinterpret_cast<uint8_t*>(out.data())));
  return out;
}

std::string ColumnChunkOf(absl::string_view records, uint32_t number) {
  const std::string columns = ColumnsOf(records);
  if (columns.empty()) return "";
  constexpr int kLevel = 3;
  std::vector<uint64_t> workspace(ChunkWorkspaceBytes(kLevel) / sizeof(uint64_t) + 1);
  std::vector<uint8_t> out(ColumnChunkBound(columns.size()));
  ChunkWriter writer;
  InitChunkWriter(&writer, workspace.data(), workspace.size() * sizeof(uint64_t), kLevel);
  const size_t size = WriteColumnChunk(&writer, number, Columns().stats(),
                                       reinterpret_cast<const uint8_t*>(columns.data()),
                                       Columns().ends(), out.data(), out.size());
  return std::string(reinterpret_cast<const char*>(out.data()), size);
}

void TraceBuilder::CloseChunkOfColumns() {
  const std::string chunk = ColumnChunkOf(records_, static_cast<uint32_t>(chunk_offsets_.size()));
  if (chunk.empty()) return CloseChunk();
  chunk_offsets_.push_back(bytes_.size());
  bytes_ += chunk;
  records_.clear();
  state_ = {};
}

void TraceBuilder::CloseChunk() {
  if (records_.empty()) return;
  chunk_offsets_.push_back(bytes_.size());
  bytes_ += ChunkOf(records_, static_cast<uint32_t>(chunk_offsets_.size() - 1), state_.stats);
  records_.clear();
  state_ = {};
}

void AddEveryRecord(TraceBuilder& builder) {
  constexpr uint32_t kMax32 = std::numeric_limits<uint32_t>::max();
  constexpr uint64_t kMax64 = std::numeric_limits<uint64_t>::max();
  static const std::string argv("server\0--port\0\"11434\"\n", 22);
  static const std::string build_id("\x00\x01\xfe\xff", 4);

  HeaderRecord header;
  header.pid = 4242;
  header.ppid = 1;
  header.start_ns = 123'456'789'012;
  header.wall_ns = 1'700'000'000'000'000'000;
  header.process_start = 8'765'432;
  header.mode = Mode::kSample;
  header.sample_bytes = 512 << 10;
  header.segment = 3;
  header.born_by_fork = 1;
  header.exe = TextOf("/usr/bin/s\xc3\xa9rver");
  header.argv = TextOf(argv);
  header.library = TextOf("0.1.0");
  header.architecture = TextOf("x86_64");
  header.segment_ns = 200'000'000'000;
  builder.Add(header);
  builder.Add(ModuleRecord{ModuleId{1}, 5, 0x7f0000000000, 0x7f0000000000, 0x7f0000100000,
                           TextOf(build_id), TextOf("/lib/libc.so.6")});
  builder.Add(ModuleRecord{ModuleId{kMax32}, kMax64, kMax64, kMax64, kMax64, {}, {}});
  builder.Add(ThreadRecord{ThreadId{1}, 7, 4242, TextOf("main")});
  builder.Add(ThreadRecord{ThreadId{kMax32}, kMax64, kMax32, {}});
  builder.Add(NodeRecord{StackId{1}, StackId{2}, ModuleId{1}, 0x7f0000001234, 0});
  builder.Add(NodeRecord{StackId{2}, StackId{0}, ModuleId{0}, 0x401000, 1});
  builder.Add(NodeRecord{StackId{kMax32}, StackId{kMax32}, ModuleId{kMax32}, kMax64, 255});
  builder.Add(AllocRecord{1000, ThreadId{1}, Domain::kHeap, AllocFunction::kMalloc, StackId{1},
                          0x5555000010, 24});
  builder.Add(AllocRecord{1000, ThreadId{1}, Domain::kHeap, AllocFunction::kCalloc, StackId{1},
                          0x5555000030, 0});
  builder.Add(FreeRecord{900, ThreadId{2}, Domain::kHeap, 0x5555000010});  // back in time
  builder.CloseChunk();

  builder.Add(AllocRecord{kMax64, ThreadId{kMax32}, Domain::kGraph, AllocFunction::kGpu,
                          StackId{kMax32}, kMax64, kMax64});
  builder.Add(
      AllocRecord{0, ThreadId{0}, Domain::kHeap, AllocFunction::kRealloc, StackId{0}, 0, 0});
  builder.Add(AllocRecord{uint64_t{1} << 63, ThreadId{kMax32}, Domain::kDevice,
                          AllocFunction::kAligned, StackId{kMax32}, uint64_t{1} << 63,
                          (uint64_t{1} << 63) - 1});
  builder.Add(FreeRecord{kMax64, ThreadId{1}, static_cast<Domain>(255), kMax64});
  builder.Add(MapRecord{2000, ThreadId{1}, AllocFunction::kMmap, StackId{2}, 0x7f1000000000, 8192,
                        3, kMapAnonymous});
  builder.Add(MapRecord{kMax64, ThreadId{kMax32}, static_cast<AllocFunction>(255), StackId{kMax32},
                        kMax64, kMax64, 255, 255});
  builder.Add(UnmapRecord{2001, ThreadId{1}, 0x7f1000001000, 4096});
  builder.Add(UnmapRecord{0, ThreadId{0}, 0, kMax64});
  builder.CloseChunk();

  // No event: no Reset.
  builder.Add(
      CountersRecord{StackId{1}, Domain::kHeap, 1'000'000, 24'000'000, 5, 4096, 1000, 2000});
  builder.Add(CountersRecord{StackId{kMax32}, static_cast<Domain>(255), kMax64, kMax64, kMax64,
                             kMax64, kMax64, kMax64});
  builder.Add(WeightsRecord{StackId{1}, Domain::kHeap, 65'536'000'000, 512'000'000, 3, 4});
  builder.Add(
      WeightsRecord{StackId{kMax32}, static_cast<Domain>(255), kMax64, kMax64, kMax64, kMax64});
  SampleRecord sample;
  sample.time_ns = 3000;
  builder.Add(sample);  // nothing known
  sample.rss_anon = 1 << 30;
  sample.rss_file = 0;
  sample.swap = kMax64 - 1;  // the greatest known value
  sample.threads = 12;
  sample.pooled_bytes = 24;
  sample.pooled_blocks = 1;
  sample.tracer_bytes = 8 << 20;
  sample.written_bytes = 4096;
  sample.mapped_bytes = 0;
  builder.Add(sample);
  builder.Add(MemoryMapRecord{3000, TextOf("\xff")});
  builder.Add(MemoryMapRecord{kMax64, {}});
  builder.Add(LossRecord{3001, LossKind::kSignalInHook, 3});
  builder.Add(LossRecord{kMax64, static_cast<LossKind>(255), kMax64});
  builder.Add(MessageRecord{3002, TextOf("OLLAMATRACE_DEPTH=abc: not a number, 64 is used")});
  builder.Add(MessageRecord{kMax64, {}});
  builder.CloseChunk();

  builder.Add(GpuCaptureRecord{3003, GpuCaptureState::kUnavailable, TextOf("no libcupti"),
                               TextOf("/usr/local/cuda/lib64, /opt/cuda")});
  builder.Add(GpuCaptureRecord{kMax64, static_cast<GpuCaptureState>(255), {}, {}});
  builder.Add(GpuPlaceRecord{1, 0, 2, 3, TextOf("cuMemAlloc_v2")});
  builder.Add(GpuPlaceRecord{kMax32, kNoDevice, kMax32, kMax64, {}});
  builder.Add(NodeRecord{StackId{3}, StackId{1}, ModuleId{0}, 1, 0});  // at the place
  builder.Add(GpuFailureRecord{3004, GpuFailureKind::kAllocation, Domain::kDevice, 2,
                               uint64_t{1} << 40, StackId{3}});
  builder.Add(GpuFailureRecord{kMax64, static_cast<GpuFailureKind>(255), static_cast<Domain>(255),
                               kMax32, kMax64, StackId{kMax32}});
  builder.Add(GpuImplicitRecord{3005, 2, Domain::kArray, StackId{3}, 5, 4096});
  builder.Add(
      GpuImplicitRecord{kMax64, kMax32, static_cast<Domain>(255), StackId{kMax32}, kMax64, kMax64});
  builder.Add(GpuLedgerRecord{3006, 0, Domain::kPool, 100, 2, 300});
  builder.Add(
      GpuLedgerRecord{kMax64, kMax32 - 1, static_cast<Domain>(255), kMax64, kMax64, kMax64});
  builder.Add(GpuSampleRecord{3007, 0, 1 << 20, 0, kUnknownGauge, 1, 20, 3 << 20});
  builder.Add(GpuSampleRecord{kMax64, kNoDevice, kMax64 - 1, kMax64 - 1, kMax64 - 1, kMax32, kMax64,
                              kMax64});
  builder.Add(FreeRecord{4000, ThreadId{1}, Domain::kHeap, 0x5555000030});
  builder.Add(ThreadEndRecord{ThreadId{1}, 4001});
  builder.Add(ThreadEndRecord{ThreadId{kMax32}, kMax64});
  builder.Add(ModuleUnloadRecord{ModuleId{1}, 4002});
  builder.Add(ModuleUnloadRecord{ModuleId{kMax32}, kMax64});
  builder.Add(DroppedRecord{StackId{1}, Domain::kHeap, 1000, 24000, 5, 1000, 2000, 1, 2, 3, 4});
  builder.Add(DroppedRecord{StackId{kMax32}, static_cast<Domain>(255), kMax64, kMax64, kMax64,
                            kMax64, kMax64, kMax64, kMax64, kMax64, kMax64});
  builder.Add(EndRecord{4003, EndKind::kExited});
  builder.CloseChunk();
}

}  // namespace ollamatrace
