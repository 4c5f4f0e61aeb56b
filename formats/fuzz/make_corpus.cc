// make_format_corpus FOLDER: writes the seeds FOLDER/trace/* and FOLDER/journal/*, made with the
// real encoders. The corpus of the repository is made by
//   build/release/bin/make_format_corpus formats/fuzz/corpus
// and keeps besides what the fuzzers found.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "formats/fuzz/journal_program.h"
#include "formats/test_journal.h"
#include "formats/test_trace.h"

namespace ollamatrace {
namespace {

bool Write(const std::string& path, absl::string_view bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return static_cast<bool>(out.flush());
}

std::string Number(uint64_t value, size_t bytes) {
  std::string text;
  for (size_t i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}

template <typename T>
std::string Raw(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

std::string Operation(JournalOperation operation, absl::string_view arguments) {
  return absl::StrCat(std::string(1, static_cast<char>(operation)), arguments);
}

std::string Sized(JournalOperation operation, absl::string_view bytes) {
  return Operation(operation, absl::StrCat(Number(bytes.size(), 1), bytes));
}

std::string Publish(uint8_t ring, EventKind kind, uint16_t address, uint8_t attributes = 0) {
  return Operation(
      JournalOperation::kPublish,
      absl::StrCat(Number(ring, 1), Number(static_cast<uint8_t>(kind), 1), Number(attributes, 1),
                   Number(address, 2), Number(64, 2), Number(9, 1)));
}

template <typename Record>
std::string Encoded(const Record& record) {
  TraceBuilder builder;
  builder.Add(record);
  return builder.records();
}

std::string HeaderBytes() {
  HeaderRecord header;
  header.pid = kTestPid;
  header.exe = TextOf("/bin/a");
  return Encoded(header);
}

bool WriteTraces(const std::string& folder) {
  TraceBuilder all;
  AddEveryRecord(all);
  bool good = Write(folder + "/every_record", all.bytes());
  good &= Write(folder + "/cut", absl::string_view(all.bytes()).substr(0, all.bytes().size() - 7));
  std::string damaged = all.bytes();
  damaged[all.chunk_offsets()[1] + 80] ^= 1;
  good &= Write(folder + "/damaged", damaged);

  // The records of each chunk, for the modes that make chunks of their own.
  TraceBuilder small;
  small.Add(ThreadRecord{ThreadId{1}, 7, 4242, TextOf("main")});
  small.Add(NodeRecord{StackId{1}, StackId{0}, ModuleId{1}, 0x7f0000001234, 0});
  small.Add(AllocRecord{1000, ThreadId{1}, Domain::kHeap, AllocFunction::kMalloc, StackId{1},
                        0x5555000010, 24});
  small.Add(FreeRecord{1001, ThreadId{1}, Domain::kHeap, 0x5555000010});
  small.Add(MapRecord{1002, ThreadId{2}, AllocFunction::kMmap, StackId{1}, 0x7f1000000000, 8192, 3,
                      kMapAnonymous});
  small.Add(UnmapRecord{1003, ThreadId{2}, 0x7f1000000000, 8192});
  const std::string events = small.records();
  const std::string others = absl::StrCat(
      HeaderBytes(), Encoded(ModuleRecord{ModuleId{1}, 5, 1, 2, 3, TextOf("id"), TextOf("/l")}),
      Encoded(CountersRecord{StackId{1}, Domain::kHeap, 1, 24, 5, 4096, 1000, 2000}),
      Encoded(WeightsRecord{StackId{1}, Domain::kHeap, 655360, 4096, 9, 10}),
      Encoded(SampleRecord{5, 1, 2}), Encoded(LossRecord{6, LossKind::kOther, 1}),
      Encoded(MessageRecord{7, TextOf("text")}), Encoded(EndRecord{8, EndKind::kExited}));
  good &= Write(folder + "/records_events", absl::StrCat("R", events));
  good &= Write(folder + "/records_others", absl::StrCat("R", others));
  // Enough that columns are smaller.
  std::mt19937_64 random(1);
  for (uint64_t i = 0; i < 60; ++i) {
    const uint64_t address = 0x5555000010 + random() % 20 * 32;
    if (i % 9 == 0)
      small.Add(NodeRecord{StackId{2 + static_cast<uint32_t>(i)}, StackId{1}, {}, i, 0});
    if (i % 3 == 2) {
      small.Add(FreeRecord{2000 * i, ThreadId{1}, Domain::kHeap, address});
    } else {
      small.Add(AllocRecord{2000 * i, ThreadId{1 + static_cast<uint32_t>(i / 40)}, Domain::kHeap,
                            AllocFunction::kMalloc, StackId{static_cast<uint32_t>(i % 7)}, address,
                            random() % 40});
    }
  }
  small.Add(SampleRecord{5, 1, 2});
  good &= Write(folder + "/records_heap", absl::StrCat("R", small.records()));
  good &= Write(folder + "/columns", absl::StrCat("K", ColumnsOf(small.records())));
  good &= Write(folder + "/chunk_of_columns", ColumnChunkOf(small.records(), 0));
  const auto chunk = [](int operation, absl::string_view records) {
    return absl::StrCat(Number(static_cast<uint64_t>(operation) * 2 + 1, 1),
                        Number(records.size(), 2), records);
  };
  const std::string change = absl::StrCat(Number(1, 1), Number(5, 4));
  good &= Write(folder + "/chunks", absl::StrCat("C", chunk(0, others), chunk(0, events)));
  good &= Write(folder + "/chunks_lying",
                absl::StrCat("C", chunk(0, others), chunk(2, events), change, chunk(0, events)));
  good &= Write(folder + "/chunks_garbage",
                absl::StrCat("C", chunk(0, others), chunk(1, "garbage"), chunk(0, events)));
  good &= Write(folder + "/chunks_flipped",
                absl::StrCat("C", chunk(3, others), Number(70, 2), "x", chunk(0, events)));
  return good;
}

bool WriteJournals(const std::string& folder) {
  using Op = JournalOperation;
  const std::string begin = absl::StrCat(
      Sized(Op::kIdentity, HeaderBytes()),
      Sized(Op::kDefine, Encoded(ThreadRecord{ThreadId{1}, 7, 4242, TextOf("main")})),
      Sized(Op::kDefine, Encoded(ModuleRecord{ModuleId{1}, 5, 1, 2, 3, {}, TextOf("/l")})),
      Operation(Op::kNode, absl::StrCat(Number(1, 1), Raw(StackNode{0x1000, 0, 1}))));
  const std::string held = absl::StrCat(
      Sized(Op::kStage, Encoded(AllocRecord{1, ThreadId{1}, Domain::kHeap, AllocFunction::kMalloc,
                                            StackId{1}, 0x10, 8})),
      Operation(Op::kBlock, absl::StrCat(Number(1, 1), Raw(BlockEntry{0x20, 8, 3, 1, 1}))),
      Operation(Op::kCounter,
                absl::StrCat(Number(1, 1), Raw(CounterSlot{1, 0, 1, 2, 3, 4, 5, 6, 7}))),
      Operation(Op::kCounter,
                absl::StrCat(Number(2, 1), Raw(WeightSlot{1, kWeightSlot, 1, 2, 3, 4, {5, 6, 7}}))),
      Operation(Op::kMapping,
                absl::StrCat(Number(0, 1), Raw(MappingEntry{4096, 0x1000, 5, 1, 1, 4, 3, 0, 0}))),
      Operation(Op::kPending,
                absl::StrCat(Number(0, 1), Raw(PendingUnmap{4096, 0x1000, 6, 1, 0}))));
  const std::string events = absl::StrCat(
      Publish(0, EventKind::kAlloc, 1), Publish(1, EventKind::kFree, 1),
      Publish(17, EventKind::kAlloc, 1), Publish(0, EventKind::kReallocFree, 2),
      Publish(0, EventKind::kReallocFailed, 2), Publish(1, EventKind::kReallocFree, 2),
      Publish(1, EventKind::kReallocDone, 300), Publish(255, EventKind::kMap, 0x100, 3),
      Publish(0, EventKind::kUnmap, 0x100), Publish(0, EventKind::kUnmapFailed, 0x100),
      Publish(17, EventKind::kNothing, 1), Publish(17, EventKind::kUnmap, 0x100));
  bool good = Write(folder + "/held", absl::StrCat(begin, held));
  good &= Write(folder + "/events", absl::StrCat(begin, events));
  good &= Write(
      folder + "/in_batch",
      absl::StrCat(begin, held,
                   Operation(Op::kLog, absl::StrCat(Number(0, 1), Number(11, 1), Number(4, 2))),
                   Operation(Op::kBlock, absl::StrCat(Number(1, 1), Raw(BlockEntry{}))), events));
  good &= Write(folder + "/wrapping_order",
                absl::StrCat(begin,
                             Operation(Op::kSequence, absl::StrCat(Number(HeapShard(16), 2),
                                                                   Number(0xfffffffe, 4))),
                             events));
  good &= Write(folder + "/cut",
                absl::StrCat(begin, held, events, Operation(Op::kSize, Number(9 * 8 + 1, 1))));
  good &= Write(folder + "/wild_undo", absl::StrCat(begin, Operation(Op::kUndo, Number(1, 8)),
                                                    Operation(Op::kUndo, Number(257, 8))));
  RingEntry limbo{};
  limbo.thread = 1;
  limbo.limbo_address = 0x20;
  good &=
      Write(folder + "/limbo",
            absl::StrCat(begin, held, Operation(Op::kRing, absl::StrCat(Number(0, 1), Raw(limbo))),
                         Publish(0, EventKind::kReallocFailed, 2)));
  return good;
}

}  // namespace
}  // namespace ollamatrace

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: make_format_corpus FOLDER\n");
    return 2;
  }
  const std::string folder = argv[1];
  std::filesystem::create_directories(folder + "/trace");
  std::filesystem::create_directories(folder + "/journal");
  if (!ollamatrace::WriteTraces(folder + "/trace") ||
      !ollamatrace::WriteJournals(folder + "/journal")) {
    fprintf(stderr, "make_format_corpus: cannot write to %s\n", argv[1]);
    return 1;
  }
  return 0;
}
