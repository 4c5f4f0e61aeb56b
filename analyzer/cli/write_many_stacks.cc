// For command_line_test.py: writes a trace of many stacks to the path that it is given.
#include <cstdint>
#include <fstream>

#include "formats/test_trace.h"

int main(int argc, char** argv) {
  using namespace ollamatrace;
  if (argc != 2) return 2;
  TraceBuilder builder;
  HeaderRecord header;
  header.pid = 1;
  header.start_ns = 1;
  header.exe = TextOf("/bin/example");
  builder.Add(header);
  for (uint32_t i = 1; i <= 3000; ++i) {
    builder.Add(NodeRecord{StackId{i}, StackId{i / 2}, ModuleId{}, 0x1000 + i, 0});
    builder.Add(AllocRecord{i, ThreadId{1}, Domain::kHeap, AllocFunction::kMalloc, StackId{i},
                            i * 4096ull, i});
    if (i % 1000 == 0) builder.CloseChunk();
  }
  builder.Add(EndRecord{4000, EndKind::kExited});
  builder.CloseChunk();
  std::ofstream out(argv[1], std::ios::binary);
  out << builder.bytes();
  return out.flush() ? 0 : 1;
}
