// reuse_check TARGET LIBRARY [EVENTS]: runs TARGET (reuse_target) in each mode. Its trace must
// hold no free of an unknown block and no block over a live one, just as many events and bytes as
// there were, and the blocks that were left. In mode sample (a fifth of the events) with 1 byte
// that is so, too; with more, no block that was freed, and as many as it says within 6 standard
// errors. Then a fifth of the events again with a limit of the trace's bytes, so small that old
// segments are dropped all the time: nothing may change. The trace of the full mode takes some 5
// bytes an event under $TMPDIR.
#include <sys/wait.h>

#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "formats/sample_weight.h"
#include "formats/trace_reader.h"
#include "tests/exactness/live_state.h"
#include "tests/exactness/op_log.h"
#include "tests/exactness/traced_process.h"

namespace ollamatrace {
namespace {

namespace fs = std::filesystem;

// The target's blocks have 77, 141 or 205 bytes: with 1 byte each of them is drawn.
constexpr char kEveryBlock[] = "sample:1";
constexpr char kSomeBlocks[] = "sample:512";

// Counts the events of the target's own blocks only.
class MarkedState : public LiveState {
 public:
  // Mode sample: what the blocks in the trace and the folded pairs stand for.
  double EstimatedBlocks() const {
    double sum = weights_of_events_;
    for (const auto& [stack, weights] : weights_) {
      sum += static_cast<double>(weights.blocks) / SampleWeight::kOneBlock;
    }
    return sum;
  }
  double EstimatedVariance() const {
    double sum = variance_of_events_;
    for (const auto& [stack, weights] : weights_) {
      sum += static_cast<double>(weights.blocks_variance) / SampleWeight::kOneBlockVariance;
    }
    return sum;
  }

  void OnWeights(const WeightsRecord& record) override {
    weights_[static_cast<uint32_t>(record.stack)] = record;
  }
  void OnAlloc(const AllocRecord& record) override {
    LiveState::OnAlloc(record);
    const double chance =
        header.sample_bytes == 0 ? 1 : SampleChance(record.size, header.sample_bytes);
    weights_of_events_ += 1 / chance;
    variance_of_events_ += (1 - chance) / chance / chance;
    if (record.domain == Domain::kHeap && IsMarked(record.size)) {
      ++marked;
      marked_bytes += record.size;
    }
  }
  uint64_t marked = 0;
  uint64_t marked_bytes = 0;

 private:
  double weights_of_events_ = 0, variance_of_events_ = 0;
  std::map<uint32_t, WeightsRecord> weights_;
};

constexpr uint64_t kMaxBytes = 1 << 20;

bool RunOnce(const std::string& target, const std::string& library, const std::string& mode,
             bool limited, const std::string& events, const std::string& scratch) {
  const std::string folder = scratch + "/" + mode;
  const std::string traces = folder + "/trace";
  fs::create_directories(traces);
  std::vector<std::string> settings;
  if (limited) settings.push_back("OLLAMATRACE_MAX_BYTES=" + std::to_string(kMaxBytes));
  const pid_t pid =
      StartTraced({target, folder + "/result", events}, library, traces, mode, settings);
  int status = 0;
  waitpid(pid, &status, 0);
  std::ifstream result(folder + "/result");
  uint64_t allocations = 0, frees = 0, bytes = 0;
  if (status != 0 || !(result >> allocations >> frees >> bytes)) {
    printf("%s: the target ended with wait status %d\n", mode.c_str(), status);
    return false;
  }
  std::map<uint64_t, uint64_t> left;
  uint64_t address = 0, size = 0;
  while (result >> address >> size) left[address] = size;

  if (library.empty()) {
    printf("untraced: %" PRIu64 " allocations, %" PRIu64 " frees, %zu blocks left\n", allocations,
           frees, left.size());
    return allocations - frees == left.size();
  }
  const std::vector<std::string> files = TraceFiles(traces);
  if (files.size() != 1) {
    printf("%s: %zu traces\n", mode.c_str(), files.size());
    return false;
  }
  MarkedState state;
  const auto summary = ReadTrace(files[0], state);
  if (!summary.ok()) {
    printf("%s: unreadable: %s\n", mode.c_str(), std::string(summary.status().message()).c_str());
    return false;
  }
  bool good = true;
  const auto expect = [&](const char* what, uint64_t is, uint64_t should) {
    if (is == should) return;
    printf("%s: %s: %" PRIu64 ", not %" PRIu64 "\n", mode.c_str(), what, is, should);
    good = false;
  };
  expect("mismatches", state.mismatches, 0);
  expect("lost events", state.lost_events, 0);
  expect("damaged chunks", summary->damaged_chunks, 0);
  uint64_t trace_bytes = 0;
  for (const std::string& file : summary->files) trace_bytes += fs::file_size(file);
  if (limited && trace_bytes > kMaxBytes) expect("bytes of trace", trace_bytes, kMaxBytes);
  if (limited && mode == "full") expect("began with a checkpoint", state.header.segment != 0, 1);
  if (mode == "full" && !limited) {
    expect("pairs folded away", state.folded_pairs, 0);
    expect("allocations in the trace", state.marked, allocations);
    expect("bytes allocated in the trace", state.marked_bytes, bytes);
  }
  // Folded pairs have no addresses and no sizes of their own: the process's other blocks are among
  // them.
  const uint64_t all = state.allocations + state.folded_pairs;
  const bool draws = mode == kSomeBlocks;
  if (draws) {
    const double off = state.EstimatedBlocks() - static_cast<double>(allocations);
    // The process's few other blocks are tiny, and stand for up to 512 each.
    if (std::abs(off) > 6 * std::sqrt(state.EstimatedVariance()) + 10'000) {
      expect("allocations, estimated", static_cast<uint64_t>(state.EstimatedBlocks()), allocations);
    }
  } else if (all < allocations || all > allocations + 1000) {
    expect("allocations in the trace and folded", all, allocations);
  }
  uint64_t found = 0;
  for (const auto& [at, block] : state.blocks()) {
    if (!IsMarked(block.size)) continue;
    const auto it = left.find(at);
    if (it != left.end() && it->second == block.size) {
      ++found;
    } else {
      printf("%s: a false survivor: 0x%" PRIx64 ", %" PRIu64 " bytes\n", mode.c_str(), at,
             block.size);
      good = false;
    }
  }
  if (!draws) {
    expect("blocks found of those that were left", found, left.size());
  } else if (found == 0) {
    expect("blocks found of those that were left", found, left.size() / 4);
  }
  for (const std::string& line : state.complaints) printf("%s: %s\n", mode.c_str(), line.c_str());
  for (const std::string& line : summary->notes) printf("%s: %s\n", mode.c_str(), line.c_str());
  printf("%s%s: %" PRIu64 " allocations and %" PRIu64 " frees, %" PRIu64
         " allocations in the trace, %" PRIu64 " pairs folded, %zu blocks left, %" PRIu64
         " bytes of trace\n",
         mode.c_str(), limited ? ", limited" : "", allocations, frees, state.allocations,
         state.folded_pairs, left.size(), trace_bytes);
  fflush(stdout);
  return good;
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: reuse_check TARGET LIBRARY [EVENTS]\n");
    return 2;
  }
  const uint64_t events = argc > 3 ? strtoull(argv[3], nullptr, 10) : 5'000'000;
  const std::string scratch = MakeScratchFolder();
  for (const bool limited : {false, true}) {
    for (const std::string& mode :
         std::vector<std::string>{"survivors", "full", kEveryBlock, kSomeBlocks}) {
      const bool fewer = limited || mode == kEveryBlock || mode == kSomeBlocks;
      const std::string of_mode = std::to_string(fewer ? events / 5 : events);
      if (RunOnce(argv[1], argv[2], mode, limited, of_mode, scratch)) {
        fs::remove_all(scratch + "/" + mode);
      } else {
        printf("kept in %s\n", scratch.c_str());
        return 1;
      }
    }
  }
  fs::remove_all(scratch);
  return 0;
}

}  // namespace
}  // namespace ollamatrace

int main(int argc, char** argv) { return ollamatrace::Main(argc, argv); }
