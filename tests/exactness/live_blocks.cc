// live_blocks FOLDER: the heap blocks that are live at the end of the folder's only trace, one line
// each: "SIZE STACK". The last line says what else there was:
//   "total BLOCKS BYTES mismatches N lost N pairs N".
#include <cinttypes>
#include <cstdio>
#include <string>
#include <vector>

#include "formats/trace_reader.h"
#include "tests/exactness/live_state.h"

int main(int argc, char** argv) {
  using namespace ollamatrace;
  if (argc != 2) {
    fprintf(stderr, "usage: live_blocks FOLDER\n");
    return 2;
  }
  const std::vector<std::string> files = TraceFiles(argv[1]);
  if (files.size() != 1) {
    fprintf(stderr, "live_blocks: %zu traces in %s, not one\n", files.size(), argv[1]);
    return 1;
  }
  LiveState state;
  const auto summary = ReadTrace(files[0], state);
  if (!summary.ok()) {
    fprintf(stderr, "live_blocks: %s\n", std::string(summary.status().message()).c_str());
    return 1;
  }
  uint64_t bytes = 0;
  for (const auto& [address, block] : state.blocks()) {
    printf("%" PRIu64 " %" PRIu32 "\n", block.size, static_cast<uint32_t>(block.stack));
    bytes += block.size;
  }
  for (const std::string& line : state.complaints) fprintf(stderr, "%s\n", line.c_str());
  for (const std::string& line : summary->notes) fprintf(stderr, "%s\n", line.c_str());
  printf("total %zu %" PRIu64 " mismatches %" PRIu64 " lost %" PRIu64 " pairs %" PRIu64 "\n",
         state.blocks().size(), bytes, state.mismatches, state.lost_events, state.folded_pairs);
  return fflush(stdout) == 0 ? 0 : 1;
}
