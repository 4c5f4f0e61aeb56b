// write_example_trace FILE [SEED]: a trace with every kind of record and a few thousand random
// events, for tests that compare readers.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <vector>

#include "formats/test_trace.h"

int main(int argc, char** argv) {
  using namespace ollamatrace;
  if (argc < 2) {
    fprintf(stderr, "usage: write_example_trace FILE [SEED]\n");
    return 2;
  }
  std::mt19937_64 random(argc > 2 ? strtoull(argv[2], nullptr, 10) : 1);
  TraceBuilder builder;
  AddEveryRecord(builder);
  // Few addresses, so that frees and unmaps hit.
  for (int i = 0; i < 5000; ++i) {
    const uint64_t time_ns = random() >> (random() % 64);
    const ThreadId thread{static_cast<uint32_t>(random() % 5)};
    const StackId stack{static_cast<uint32_t>(random() % 100)};
    const uint64_t address = (random() % 200) << 12;
    const uint64_t size = random() % (1 << (random() % 20));
    switch (random() % 6) {
      case 0:
      case 1:
        builder.Add(AllocRecord{time_ns, thread, static_cast<Domain>(random() % 16),
                                static_cast<AllocFunction>(random() % 8), stack, address, size});
        break;
      case 2:
        builder.Add(FreeRecord{time_ns, thread, static_cast<Domain>(random() % 16), address});
        break;
      case 3:
      case 4:
        builder.Add(MapRecord{time_ns, thread, static_cast<AllocFunction>(4 + random() % 3), stack,
                              address, size >> 12 << 12, static_cast<uint8_t>(random() % 8),
                              static_cast<uint8_t>(random() % 4)});
        break;
      default:
        builder.Add(UnmapRecord{time_ns, thread, address, size >> 12 << 12});
    }
    if (random() % 500 == 0) builder.CloseChunk();
  }
  builder.CloseChunk();
  // A heap, in columns.
  uint64_t time_ns = 1'000'000'000;
  uint32_t nodes = 1;
  std::vector<uint64_t> live;
  for (int i = 0; i < 5000; ++i) {
    time_ns += random() % 3000;
    const ThreadId thread{1 + static_cast<uint32_t>(random() % 20 == 0)};
    if (random() % 10 == 0) {
      builder.Add(NodeRecord{StackId{nodes}, StackId{static_cast<uint32_t>(random() % nodes)},
                             ModuleId{static_cast<uint32_t>(random() % 3)},
                             0x400000 + random() % 300, static_cast<uint8_t>(random() % 2)});
      ++nodes;
    }
    if (random() % 200 == 0) builder.Add(SampleRecord{time_ns, 1});
    if (random() % 2 == 0 && !live.empty()) {
      const size_t at = random() % 4 == 0 ? random() % live.size() : live.size() - 1;
      builder.Add(FreeRecord{time_ns, thread, Domain::kHeap, live[at]});
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(at));
      if (random() % 10 == 0) builder.Add(FreeRecord{time_ns, thread, Domain::kHeap, random()});
    } else {
      live.push_back(0x5555'0000'0000 + random() % 500 * 24);
      builder.Add(AllocRecord{time_ns, thread, Domain::kHeap,
                              static_cast<AllocFunction>(random() % 3),
                              StackId{static_cast<uint32_t>(random() % nodes)}, live.back(),
                              random() % (1 << (random() % 20))});
    }
    if (random() % 1000 == 0) builder.CloseChunkOfColumns();
  }
  builder.CloseChunkOfColumns();
  std::ofstream out(argv[1], std::ios::binary | std::ios::trunc);
  out.write(builder.bytes().data(), static_cast<std::streamsize>(builder.bytes().size()));
  return out.flush() ? 0 : 1;
}
