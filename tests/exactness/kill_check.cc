// kill_check TARGET LIBRARY [RUNS [ENDINGS]]: kills TARGET (kill_target) at random instants, RUNS
// times in all, as often in each mode, and lets it end in five other ways, ENDINGS times each
// in each mode. After each death the trace must hold what the target had written down: no block
// missing whose allocation had returned, none live whose free had begun... and returned. (Mode
// sample: with 1 byte, each of the target's blocks is drawn; with more, some are missing.) Then the
// same with a limit of the trace's bytes, so small that old segments are dropped all the time: a
// quarter of the times. LIBRARY "" checks the target's log alone.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "formats/trace_reader.h"
#include "tests/exactness/live_state.h"
#include "tests/exactness/op_log.h"
#include "tests/exactness/traced_process.h"

namespace ollamatrace {
namespace {

namespace fs = std::filesystem;

void SleepMicroseconds(uint64_t us) {
  const timespec time = {static_cast<time_t>(us / 1000000), static_cast<long>(us % 1000000 * 1000)};
  nanosleep(&time, nullptr);
}

std::string Format(const char* what, uint64_t address, uint64_t size) {
  char text[128];
  snprintf(text, sizeof(text), "%s: 0x%" PRIx64 ", %" PRIu64 " bytes", what, address, size);
  return text;
}

// What may be live although nobody knows its address: the results of calls that did not return, by
// size.
using InBetween = std::map<uint64_t, int>;

bool TakeOne(InBetween* sizes, uint64_t size) {
  const auto it = sizes->find(size);
  if (it == sizes->end() || it->second == 0) return false;
  --it->second;
  return true;
}

// Compares slots with what the trace says is live: `take(address, size)` removes such a one, or
// answers that there is none. What may be there besides is added to `unknown`.
// `all`: each of them is to be in the trace.
template <typename Slots, typename Take>
void CheckSlots(const Slots& slots, const Take& take, bool all, const char* missing,
                const char* moved_missing, InBetween* unknown, std::vector<std::string>* problems) {
  for (const Slot& slot : slots) {
    const SlotState slot_state = slot.state.load(std::memory_order_relaxed);
    if (slot_state == SlotState::kLive && !take(slot.address, slot.size) && all) {
      problems->push_back(Format(missing, slot.address, slot.size));
    }
    if (slot_state == SlotState::kMoved && !take(slot.new_address, slot.new_size) && all) {
      problems->push_back(Format(moved_missing, slot.new_address, slot.new_size));
    }
  }
  for (const Slot& slot : slots) {
    switch (slot.state.load(std::memory_order_relaxed)) {
      case SlotState::kFreeing:
        take(slot.address, slot.size);
        break;
      case SlotState::kMoving:
        // The old one, or the new one, or none: not both.
        if (!take(slot.address, slot.size)) ++(*unknown)[slot.new_size];
        break;
      case SlotState::kAllocating:
        ++(*unknown)[slot.size];
        break;
      default:
        break;
    }
  }
}

// Compares the heap slots with the trace's blocks.
void CheckBlocks(const OpLog& log, const LiveState& state, int threads, bool all,
                 std::vector<std::string>* problems) {
  std::unordered_map<uint64_t, LiveState::Block> live = state.blocks();
  const auto take = [&](uint64_t address, uint64_t size) {
    const auto it = live.find(address);
    if (it == live.end() || it->second.size != size) return false;
    live.erase(it);
    return true;
  };
  InBetween unknown;
  CheckSlots(log.heap, take, all, "a live block is missing", "a reallocated block is missing",
             &unknown, problems);
  int noise = 0;
  for (const auto& [address, block] : live) {
    if (IsNoise(block.size)) ++noise;
    if (IsMarked(block.size) && !TakeOne(&unknown, block.size)) {
      problems->push_back(Format("a false survivor", address, block.size));
    }
  }
  if (noise > threads) {
    problems->push_back(
        Format("false survivors that lived for a moment", 0, static_cast<uint64_t>(noise)));
  }
}

// The same for the mappings. A mapping is a range of its own in the trace, whatever lies beside it.
void CheckMappings(const OpLog& log, const LiveState& state, std::vector<std::string>* problems) {
  std::map<uint64_t, uint64_t> live = state.mappings();
  const auto take = [&](uint64_t address, uint64_t size) {
    const auto it = live.find(address);
    if (it == live.end() || it->second != address + size) return false;
    live.erase(it);
    return true;
  };
  InBetween unknown;
  CheckSlots(log.mappings, take, true, "a live mapping is missing", "a moved mapping is missing",
             &unknown, problems);
  for (const auto& [begin, end] : live) {
    if (IsMarkedMapping(end - begin) && !TakeOne(&unknown, end - begin)) {
      problems->push_back(Format("a mapping that is gone", begin, end - begin));
    }
  }
}

// The target's blocks have 77 to 2573 bytes, and some 160 KB.
constexpr char kEveryBlock[] = "sample:1";
constexpr char kSomeBlocks[] = "sample:2K";

struct Plan {
  std::string target;
  std::string library;
  std::string mode;
  std::string end;  // "kill", or an END of kill_target.
  int threads = 4;
  bool at_once = false;  // Killed while it is still starting.
  bool limited = false;  // With kMaxBytes.
};

constexpr uint64_t kMaxBytes = 256 << 10;

// All files of the trace, and what is left of a checkpoint that was being made.
uint64_t TraceBytes(const std::string& folder) {
  uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const fs::path extension = entry.path().extension();
    if (extension == ".zst" || extension == ".tmp") bytes += entry.file_size();
  }
  return bytes;
}

struct Totals {
  uint64_t runs = 0, operations = 0, live_blocks = 0, without_trace = 0, with_journal = 0;
  std::map<std::string, uint64_t> with_checkpoint;  // By mode.
};

// One life and death. Gives what was wrong.
std::vector<std::string> RunOnce(const Plan& plan, const std::string& folder,
                                 std::mt19937_64& random, Totals* totals) {
  std::vector<std::string> problems;
  const std::string log_path = folder + "/log";
  const int fd = open(log_path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (fd < 0 || ftruncate(fd, sizeof(OpLog)) != 0) {
    fprintf(stderr, "cannot make %s: %s\n", log_path.c_str(), strerror(errno));
    exit(1);
  }
  void* memory = mmap(nullptr, sizeof(OpLog), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (memory == MAP_FAILED) exit(1);
  OpLog& log = *static_cast<OpLog*>(memory);

  const std::string traces = folder + "/trace";
  fs::create_directory(traces);
  const bool killed = plan.end == "kill";
  const uint64_t most_operations = plan.limited ? 400000 : 60000;
  std::vector<std::string> argv = {plan.target, log_path, std::to_string(plan.threads),
                                   killed ? "none" : plan.end,
                                   std::to_string(random() % most_operations + 1)};
  std::vector<std::string> settings;
  if (plan.limited) {
    argv.push_back("no-pool");
    settings.push_back("OLLAMATRACE_MAX_BYTES=" + std::to_string(kMaxBytes));
  }
  const pid_t pid = StartTraced(argv, plan.library, traces, plan.mode, settings);
  if (killed) {
    if (!plan.at_once) {
      while (log.running.load(std::memory_order_acquire) == 0 &&
             waitpid(pid, nullptr, WNOHANG) == 0) {
        SleepMicroseconds(200);
      }
    }
    SleepMicroseconds(random() % (plan.at_once ? 8000 : plan.limited ? 400000 : 40000));
    kill(pid, SIGKILL);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  const bool ended_as_planned =
      killed || plan.end == "segv" || plan.end == "abort"
          ? WIFSIGNALED(status) && WTERMSIG(status) == (killed               ? SIGKILL
                                                        : plan.end == "segv" ? SIGSEGV
                                                                             : SIGABRT)
          : WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (!ended_as_planned) {
    problems.push_back("the target ended otherwise, with wait status " + std::to_string(status));
  }

  ++totals->runs;
  totals->operations += log.operations.load(std::memory_order_relaxed);
  const bool worked = log.operations.load(std::memory_order_relaxed) > 0;
  const std::vector<std::string> files = TraceFiles(traces);
  if (plan.library.empty()) {
    // Nothing to compare with.
  } else if (files.empty()) {
    ++totals->without_trace;
    // Killed before the library had begun: then the program itself had not either.
    if (worked) problems.push_back("there is no trace");
  } else if (files.size() > 1) {
    problems.push_back("there are " + std::to_string(files.size()) + " traces of one process");
  } else {
    LiveState state;
    const auto summary = ReadTrace(files[0], state);
    if (!summary.ok()) {
      // A file that was made and not yet written to says nothing, and nothing had happened.
      if (worked) problems.push_back("unreadable: " + std::string(summary.status().message()));
      ++totals->without_trace;
    } else {
      totals->with_journal += summary->has_journal ? 1 : 0;
      totals->live_blocks += state.blocks().size();
      if (plan.limited) {
        const uint64_t bytes = TraceBytes(traces);
        if (bytes > kMaxBytes) problems.push_back(std::to_string(bytes) + " bytes of trace");
        if (state.header.segment != 0) ++totals->with_checkpoint[plan.mode];
      }
      if (summary->damaged_chunks != 0) {
        problems.push_back(std::to_string(summary->damaged_chunks) + " damaged chunks");
      }
      if (summary->owner_alive) problems.push_back("the dead process counts as alive");
      if (state.lost_events != 0) {
        problems.push_back(std::to_string(state.lost_events) + " events lost");
      }
      if (state.mismatches != 0) {
        problems.push_back(std::to_string(state.mismatches) + " mismatches");
      }
      CheckBlocks(log, state, plan.threads, plan.mode != kSomeBlocks, &problems);
      CheckMappings(log, state, &problems);
      if (!problems.empty()) {
        problems.insert(problems.end(), state.complaints.begin(), state.complaints.end());
        problems.insert(problems.end(), summary->notes.begin(), summary->notes.end());
      }
    }
  }
  munmap(memory, sizeof(OpLog));
  return problems;
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: kill_check TARGET LIBRARY [RUNS [ENDINGS]]\n");
    return 2;
  }
  const int runs = argc > 3 ? atoi(argv[3]) : 500;
  const int endings = argc > 4 ? atoi(argv[4]) : 25;
  static constexpr const char* kModes[] = {"survivors", "full", kEveryBlock, kSomeBlocks};
  std::vector<Plan> plans;
  for (const bool limited : {false, true}) {
    for (const char* mode : kModes) {
      for (int i = 0; i < (limited ? runs / 16 : runs / 4); ++i) {
        static constexpr int kThreads[] = {1, 2, 4, 16};
        plans.push_back({argv[1], argv[2], mode, "kill", kThreads[i % 4],
                         /*at_once=*/!limited && i % 8 == 7, limited});
      }
      for (const char* end : {"segv", "_exit", "quick_exit", "abort", "return"}) {
        for (int i = 0; i < (limited ? (endings + 3) / 4 : endings); ++i) {
          plans.push_back({argv[1], argv[2], mode, end, 4, /*at_once=*/false, limited});
        }
      }
    }
  }
  const std::string scratch = MakeScratchFolder();
  std::mt19937_64 random(std::random_device{}());
  Totals totals;
  int failures = 0;
  for (size_t i = 0; i < plans.size() && failures < 10; ++i) {
    const std::string folder = scratch + "/" + std::to_string(i);
    fs::create_directory(folder);
    const std::vector<std::string> problems = RunOnce(plans[i], folder, random, &totals);
    if (problems.empty()) {
      fs::remove_all(folder);
      continue;
    }
    ++failures;
    printf("run %zu, mode %s, %d threads, end %s%s%s, kept in %s:\n", i, plans[i].mode.c_str(),
           plans[i].threads, plans[i].end.c_str(), plans[i].at_once ? " at once" : "",
           plans[i].limited ? ", limited" : "", folder.c_str());
    for (size_t n = 0; n < problems.size() && n < 30; ++n) printf("  %s\n", problems[n].c_str());
    if (problems.size() > 30) printf("  and %zu more\n", problems.size() - 30);
    fflush(stdout);
  }
  printf("%" PRIu64 " runs, %" PRIu64 " operations, %" PRIu64 " live blocks at their ends; %" PRIu64
         " with a journal left behind, %" PRIu64 " before there was a trace; %d wrong\n",
         totals.runs, totals.operations, totals.live_blocks, totals.with_journal,
         totals.without_trace, failures);
  for (const char* mode : kModes) {
    const uint64_t checkpoints = totals.with_checkpoint[mode];
    printf("%s: %" PRIu64 " limited traces began with a checkpoint\n", mode, checkpoints);
    if (checkpoints == 0 && argv[2][0] != '\0') ++failures;
  }
  if (failures == 0) fs::remove_all(scratch);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace ollamatrace

int main(int argc, char** argv) { return ollamatrace::Main(argc, argv); }
