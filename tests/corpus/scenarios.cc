// corpus_cpp NAME: one scenario, whose truth stands in cpp.json. Each keeper is a function of its
// own, never inlined, so that the truth can name it.
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "tests/corpus/requests.h"

namespace {

#define KEEPER [[gnu::noinline]]

void Serve(int requests, const std::function<void(int)>& answer) {
  for (int i = 0; i < requests; ++i) {
    answer(i);
    Answered();
  }
}

// The same numbers in every run.
class Random {
 public:
  unsigned Next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<unsigned>(state_ >> 33);
  }
  int Below(int limit) { return static_cast<int>(Next() % static_cast<unsigned>(limit)); }

 private:
  unsigned long long state_ = 42;
};

KEEPER char* Fill(char* block, size_t size) {
  if (block != nullptr) memset(block, 7, size);
  Touch(block);
  return block;
}

KEEPER void Traffic(int blocks) {
  std::vector<char*> passing;
  for (int i = 0; i < blocks; ++i) passing.push_back(new char[64 + 16 * (i % 7)]);
  for (char* block : passing) delete[] block;
}

// ---- Leaks

// What the scenarios with random sizes or times leaked, for the truth.
size_t leaked = 0;

KEEPER void DropRequest(size_t size) {
  Fill(new char[size], size);
  leaked += size;
}
KEEPER void DropReply(size_t size) { Fill(new char[size], size); }

void Steady() {
  Serve(300, [](int) { DropRequest(1000); });
}
void OneInHundred() {
  Serve(1500, [](int i) {
    Traffic(3);
    if (i % 100 == 37) DropRequest(20'000);
  });
}
void OnePercentAtRandom() {
  Random random;
  Serve(3000, [&](int) {
    if (random.Below(100) == 0) DropRequest(4096);
  });
}
void RandomSizes() {
  Random random;
  Serve(600, [&](int) { DropRequest(static_cast<size_t>(100 + random.Below(1201))); });
}
void TinyAmongTraffic() {
  Serve(400, [](int) {
    Traffic(200);
    DropRequest(8);
  });
}
void Bursts() {
  Serve(600, [](int i) {
    if (i % 10 != 0) return;
    for (int k = 0; k < 5; ++k) DropRequest(300);
  });
}
void TwoLeaks() {
  Serve(300, [](int) {
    DropRequest(2000);
    DropReply(500);
  });
}
void Killed() {
  Serve(300, [](int) { DropRequest(700); });
  raise(SIGKILL);
}
void BegunLate() {
  Serve(500, [](int i) {
    Traffic(5);
    if (i > 150) DropRequest(1000);
  });
}

KEEPER void FreeMostBuffers() {
  char* buffers[50];
  for (char*& buffer : buffers) buffer = Fill(new char[128], 128);
  for (int i = 1; i < 50; ++i) delete[] buffers[i];
}
void OneOfFifty() {
  Serve(300, [](int) { FreeMostBuffers(); });
}

void InOneThread() {
  std::mutex mutex;
  std::condition_variable changed;
  int turn = 0;
  std::vector<std::thread> workers;
  for (int worker = 0; worker < 4; ++worker) {
    workers.emplace_back([&, worker] {
      for (int i = worker; i < 400; i += 4) {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return turn == i; });
        Traffic(10);
        if (worker == 2) DropRequest(2048);
        Answered();
        ++turn;
        changed.notify_all();
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
}

KEEPER char* MakeMessage(int i) {
  char* message = new char[400];
  snprintf(message, 400, "message %d", i);
  return message;
}
void CrossThread() {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<char*> queue;
  bool done = false;
  std::thread consumer([&] {
    for (int seen = 0;;) {
      std::unique_lock<std::mutex> lock(mutex);
      changed.wait(lock, [&] { return done || !queue.empty(); });
      if (queue.empty()) return;
      char* message = queue.front();
      queue.pop_front();
      lock.unlock();
      if (++seen % 8 != 0) delete[] message;  // every eighth takes another way
    }
  });
  Serve(800, [&](int i) {
    char* message = MakeMessage(i);
    const std::lock_guard<std::mutex> lock(mutex);
    queue.push_back(message);
    changed.notify_one();
  });
  {
    const std::lock_guard<std::mutex> lock(mutex);
    done = true;
    changed.notify_one();
  }
  consumer.join();
}

KEEPER void ParseOrThrow(int i) {
  char* scratch = Fill(new char[900], 900);
  if (i % 5 == 3) throw std::runtime_error("bad request");
  delete[] scratch;
}
void AfterException() {
  Serve(500, [](int i) {
    try {
      ParseOrThrow(i);
    } catch (const std::runtime_error&) {
    }
  });
}

void InPlugin(const char* folder) {
  void* plugin = dlopen((std::string(folder) + "/corpus_plugin.so").c_str(), RTLD_NOW | RTLD_LOCAL);
  if (plugin == nullptr) abort();
  const auto tokenize = reinterpret_cast<void (*)(int)>(dlsym(plugin, "corpus_tokenize"));
  Serve(300, [&](int i) { tokenize(i); });
  dlclose(plugin);
}

struct Peer {
  std::shared_ptr<Peer> other;
  char payload[500];
};
KEEPER void MakeCycle() {
  auto one = std::make_shared<Peer>(), other = std::make_shared<Peer>();
  one->other = other;
  other->other = one;
}
void SharedPtrCycle() {
  Serve(300, [](int) { MakeCycle(); });
}

std::list<std::string>& Listeners() {
  static auto& listeners = *new std::list<std::string>;
  return listeners;
}
KEEPER void RegisterListener(int i) {
  Listeners().push_back(std::string(100, static_cast<char>('a' + i % 26)));
}
void NeverUnregistered() {
  Serve(300, [](int i) { RegisterListener(i); });
}

KEEPER void RememberClient(std::map<int, std::array<char, 248>>& clients, int i) {
  clients[i][0] = 1;
}
void MapNeverErased() {
  static auto& clients = *new std::map<int, std::array<char, 248>>;
  Serve(400, [&](int i) { RememberClient(clients, i); });
}

KEEPER void AppendHistory(std::string& history, int) {
  // Exactly as much as is needed, each time anew.
  std::string longer;
  longer.reserve(history.size() + 512);
  longer.assign(history).append(512, 'x');
  history.swap(longer);
}
void HistoryGrows() {
  static auto& history = *new std::string;
  Serve(300, [&](int i) { AppendHistory(history, i); });
}

KEEPER void WarmUpTables() {
  static auto& tables = *new std::vector<std::unique_ptr<char[]>>;
  for (int i = 0; i < 200; ++i) tables.emplace_back(new char[10'000]);
}
void BehindWarmUp() {
  Serve(500, [](int i) {
    if (i < 20) WarmUpTables();
    if (i == 0) {
      for (int k = 0; k < 2000; ++k) DropRequest(256);
    }
    DropRequest(256);
  });
}

KEEPER void MapScratch() {
  void* pages = mmap(nullptr, 64 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages != MAP_FAILED) memset(pages, 1, 64 << 10);
}
void MappingLeak() {
  Serve(400, [](int i) {
    if (i % 4 == 0) MapScratch();
  });
}

template <typename T>
struct Holder {
  KEEPER static void Keep(int i) { Touch(new T{i}); }
};
struct Record {
  int number;
  char bytes[156];
};
void InTemplate() {
  Serve(300, [](int i) { Holder<Record>::Keep(i); });
}

KEEPER void CloneContext(int) { Fill(new char[3000], 3000); }
KEEPER void KeepResultInCache(int, std::deque<char*>& results) {
  results.push_back(Fill(new char[2500], 2500));
  if (results.size() <= 40) return;
  delete[] results.front();
  results.pop_front();
}
void LeakBesideCache() {
  static auto& results = *new std::deque<char*>;
  Serve(500, [&](int i) {
    KeepResultInCache(i, results);
    if (i % 3 == 0) CloneContext(i);
  });
}

// ---- Look-alikes

KEEPER void InsertLru(std::deque<char*>& entries, size_t cap) {
  entries.push_back(Fill(new char[4096], 4096));
  if (entries.size() <= cap) return;
  delete[] entries.front();
  entries.pop_front();
}
void LruAtCap() {
  static auto& entries = *new std::deque<char*>;
  Serve(500, [&](int) { InsertLru(entries, 64); });
}
void LruReachesCapLate() {
  static auto& entries = *new std::deque<char*>;
  Serve(600, [&](int) { InsertLru(entries, 300); });
}

KEEPER void LoadPage(std::map<int, char*>& pages, int key) {
  if (pages.count(key) == 0) pages[key] = Fill(new char[2048], 2048);
}
void CacheFills() {
  static auto& pages = *new std::map<int, char*>;
  Random random;
  // Few keys are asked for often, most seldom.
  Serve(1500, [&](int) { LoadPage(pages, random.Below(1 + random.Below(1 + random.Below(400)))); });
}

class Arena {
 public:
  KEEPER char* Take(size_t size) {
    if (used_ + size > kChunk * chunks_.size()) chunks_.push_back(new char[kChunk]);
    char* place = chunks_[used_ / kChunk] + used_ % kChunk;
    used_ += size;
    return place;
  }
  void Reset() { used_ = 0; }

 private:
  static constexpr size_t kChunk = 64 << 10;
  std::vector<char*> chunks_;
  size_t used_ = 0;
};
void ArenaGrows() {
  static auto& arena = *new Arena;
  Serve(500, [&](int i) {
    const int blocks = i < 120 ? 8 * i : 8 * (i % 100);
    for (int k = 0; k < blocks; ++k) arena.Take(1024);
    arena.Reset();
  });
}

KEEPER char* TakeFromPool(std::vector<char*>& idle) {
  if (idle.empty()) return new char[8192];
  char* object = idle.back();
  idle.pop_back();
  return object;
}
void ObjectPool() {
  static auto& idle = *new std::vector<char*>;
  Serve(500, [&](int i) {
    std::vector<char*> used;
    const int most = i < 100 ? i / 3 : i % 33;
    for (int k = 0; k < most; ++k) used.push_back(TakeFromPool(idle));
    idle.insert(idle.end(), used.begin(), used.end());
  });
}

KEEPER void FillTableRow(std::array<char*, 60>& rows, int row) {
  if (rows[static_cast<size_t>(row)] == nullptr) rows[static_cast<size_t>(row)] = new char[96];
}
void LazyTable() {
  static std::array<char*, 60> rows{};
  Serve(500, [&](int i) { FillTableRow(rows, i % 60); });
}

KEEPER void GrowScratch(std::vector<char>& scratch, size_t wanted) {
  if (scratch.size() < wanted) scratch.resize(wanted);
}
void HighWaterVector() {
  static auto& scratch = *new std::vector<char>;
  Random random;
  Serve(500, [&](int i) {
    GrowScratch(scratch, static_cast<size_t>((i < 150 ? i + 1 : random.Below(150)) * 700));
  });
}

KEEPER void AppendLogLine(std::vector<std::string>& lines, int i) {
  lines.push_back(std::string(200, static_cast<char>('a' + i % 26)));
}
void LogBuffer() {
  static auto& lines = *new std::vector<std::string>;
  lines.reserve(100);
  Serve(520, [&](int i) {
    AppendLogLine(lines, i);
    if (i % 80 == 79) lines.clear();
  });
}

KEEPER void OpenSession(std::deque<std::pair<int, char*>>& sessions, int i) {
  sessions.push_back({i, Fill(new char[1500], 1500)});
}
void SessionsExpire() {
  static auto& sessions = *new std::deque<std::pair<int, char*>>;
  Random random;
  Serve(600, [&](int i) {
    OpenSession(sessions, i);
    while (!sessions.empty() && sessions.front().first < i - 50 - random.Below(20)) {
      delete[] sessions.front().second;
      sessions.pop_front();
    }
  });
}

KEEPER void ReplaceSnapshot(char*& snapshot) {
  char* fresh = Fill(new char[30'000], 30'000);
  delete[] snapshot;
  snapshot = fresh;
}
KEEPER void ResizeScratch(char*& scratch, size_t size) {
  delete[] scratch;
  scratch = Fill(new char[size], size);
}
void ScratchOfManySizes() {
  static char* scratch = nullptr;
  Random random;
  Serve(400, [&](int) { ResizeScratch(scratch, static_cast<size_t>(100 + random.Below(20'000))); });
}

void Snapshot() {
  static char* snapshot = nullptr;
  Serve(400, [](int) { ReplaceSnapshot(snapshot); });
}

KEEPER void InternName(std::unordered_map<std::string, int>& names, int i) {
  names.emplace("a name that is too long for the small string " + std::to_string(i % 90), i);
}
void InternedNames() {
  static auto& names = *new std::unordered_map<std::string, int>;
  names.reserve(256);
  Serve(500, [&](int i) { InternName(names, i); });
}

KEEPER void QueueWork(std::vector<char*>& backlog) {
  backlog.push_back(Fill(new char[1200], 1200));
}
void BacklogDrains() {
  static auto& backlog = *new std::vector<char*>;
  backlog.reserve(100);
  Serve(600, [&](int i) {
    QueueWork(backlog);
    if (i % 90 != 89) return;
    for (char* work : backlog) delete[] work;
    backlog.clear();
  });
}

KEEPER void LoadConfiguration() { Fill(new char[200'000], 200'000); }
void ConfigurationOnce() {
  LoadConfiguration();
  Serve(300, [](int) { Traffic(20); });
}

KEEPER void LoadWeights() { Fill(new char[5 << 20], 5 << 20); }
void KilledWithModel() {
  LoadWeights();
  Serve(200, [](int) { Traffic(20); });
  raise(SIGKILL);
}

void ThreadCaches() {
  std::mutex mutex;
  std::vector<std::thread> workers;
  for (int worker = 0; worker < 4; ++worker) {
    workers.emplace_back([&] {
      thread_local char* cache = nullptr;
      for (int i = 0; i < 80; ++i) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (cache == nullptr) LoadConfiguration(), cache = reinterpret_cast<char*>(&cache);
        Traffic(5);
        Answered();
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
}

void HeavyTraffic() {
  Serve(400, [](int) { Traffic(300); });
}

KEEPER void KeepSurvivor() { Fill(new char[512], 512); }
void FragmentedHeap() {
  Serve(400, [](int i) {
    std::vector<char*> passing;
    for (int k = 0; k < 50; ++k) passing.push_back(Fill(new char[2000], 2000));
    if (i < 100) KeepSurvivor();
    for (char* block : passing) delete[] block;
  });
}

void MappedTwice(const char* program) {
  const int file = open(program, O_RDONLY | O_CLOEXEC);
  Serve(200, [&](int i) {
    mmap(nullptr, 4096, PROT_READ, i % 2 == 0 ? MAP_PRIVATE : MAP_SHARED, file, 0);
    Traffic(3);
  });
}

// ---- Loading and unloading

KEEPER char* LoadTensor(size_t size) { return Fill(new char[size], size); }
void Cycles(bool leave) {
  static auto& left = *new std::vector<char*>;
  const timespec moment{0, 60'000'000};
  for (int cycle = 0; cycle < 4; ++cycle) {
    Phase(cycle == 0 ? "load" : "reload");
    std::vector<char*> tensors;
    for (int i = 0; i < 20; ++i) tensors.push_back(LoadTensor(100'000));
    nanosleep(&moment, nullptr);
    Phase("idle");
    for (int i = 0; i < 20; ++i) {
      Traffic(20);
      Answered();
    }
    Phase("unload");
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (leave && i < 5) {
        left.push_back(tensors[i]);
      } else {
        delete[] tensors[i];
      }
    }
    nanosleep(&moment, nullptr);
    Phase("end");
    nanosleep(&moment, nullptr);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::string program = argv[0];
  const std::string folder = program.substr(0, program.rfind('/'));
  const std::map<std::string, std::function<void()>> scenarios = {
      {"steady", Steady},
      {"one_in_hundred", OneInHundred},
      {"one_percent_at_random", OnePercentAtRandom},
      {"random_sizes", RandomSizes},
      {"tiny_among_traffic", TinyAmongTraffic},
      {"bursts", Bursts},
      {"two_leaks", TwoLeaks},
      {"killed", Killed},
      {"begun_late", BegunLate},
      {"one_of_fifty", OneOfFifty},
      {"in_one_thread", InOneThread},
      {"cross_thread", CrossThread},
      {"after_exception", AfterException},
      {"in_plugin", [&] { InPlugin(folder.c_str()); }},
      {"shared_ptr_cycle", SharedPtrCycle},
      {"never_unregistered", NeverUnregistered},
      {"map_never_erased", MapNeverErased},
      {"history_grows", HistoryGrows},
      {"behind_warm_up", BehindWarmUp},
      {"mapping_leak", MappingLeak},
      {"in_template", InTemplate},
      {"leak_beside_cache", LeakBesideCache},
      {"lru_at_cap", LruAtCap},
      {"lru_reaches_cap_late", LruReachesCapLate},
      {"cache_fills", CacheFills},
      {"arena_grows", ArenaGrows},
      {"object_pool", ObjectPool},
      {"lazy_table", LazyTable},
      {"high_water_vector", HighWaterVector},
      {"log_buffer", LogBuffer},
      {"sessions_expire", SessionsExpire},
      {"scratch_of_many_sizes", ScratchOfManySizes},
      {"snapshot", Snapshot},
      {"interned_names", InternedNames},
      {"backlog_drains", BacklogDrains},
      {"configuration_once", ConfigurationOnce},
      {"killed_with_model", KilledWithModel},
      {"thread_caches", ThreadCaches},
      {"heavy_traffic", HeavyTraffic},
      {"fragmented_heap", FragmentedHeap},
      {"mapped_twice", [&] { MappedTwice(program.c_str()); }},
      {"retained_after_unload", [] { Cycles(true); }},
      {"clean_unload", [] { Cycles(false); }},
  };
  const auto scenario = scenarios.find(argv[1]);
  if (scenario == scenarios.end()) return 2;
  scenario->second();
  printf("leaked %zu\n", leaked);
  return 0;
}
