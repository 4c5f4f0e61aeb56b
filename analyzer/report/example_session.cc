#include "analyzer/report/example_session.h"

#include <cstring>

namespace ollamatrace {
namespace {

constexpr uint64_t kBias = 0x500000;
constexpr uint64_t kLibBias = 0x7f0000000000;

Text Of(const char* text) { return {text, strlen(text)}; }

uint64_t At(double seconds) { return kExampleStart + static_cast<uint64_t>(seconds * 1e9); }

class Process {
 public:
  Process(const ReplayOptions& options, uint32_t pid, uint32_t ppid, double start, const char* exe,
          const std::string& argv)
      : replay_(options) {
    HeaderRecord header;
    header.pid = pid;
    header.ppid = ppid;
    header.start_ns = At(start);
    header.wall_ns = 1'764'000'000'000'000'000 + static_cast<uint64_t>(start * 1e9);
    header.process_start = pid;
    header.exe = Of(exe);
    header.argv = {argv.data(), argv.size()};
    header.library = Of("0.1.0");
    header.architecture = Of("x86_64");
    replay_.OnHeader(header);
    Module(1, exe, "\x12\x34\x56\x78\x9a\xbc\xde\xf0", kBias);
    Module(2, "/usr/lib/libruntime.so.1", "\xab\xcd\xef\x01\x02\x03\x04\x05", kLibBias);
    // main <- handle <- leak, cache (through operator new), table, map; an unnamed place in the
    // library; no module at all
    Node(1, 0, 1, kBias + 0x100);
    Node(2, 1, 1, kBias + 0x200);
    Node(10, 2, 1, kBias + 0x1000);
    Node(11, 2, 1, kBias + 0x1100);
    Node(12, 11, 2, kLibBias + 0x10);
    Node(13, 1, 1, kBias + 0x1200);
    Node(14, 2, 1, kBias + 0x1300);
    Node(15, 1, 2, kLibBias + 0x5a10);
    Node(16, 1, 0, 0xdeadb000);
    uint32_t deep = 1;
    for (uint32_t i = 0; i < 20; ++i) {
      Node(100 + i, deep, 1, kBias + 0x2000 + i * 16);
      deep = 100 + i;
    }
  }

  void Module(uint32_t id, const char* path, const char* build_id, uint64_t bias) {
    ModuleRecord module;
    module.id = ModuleId{id};
    module.path = Of(path);
    module.build_id = Of(build_id);
    module.bias = bias;
    replay_.OnModule(module);
  }
  void Node(uint32_t id, uint32_t parent, uint32_t module, uint64_t address) {
    replay_.OnNode({StackId{id}, StackId{parent}, ModuleId{module}, address, 0});
  }
  void Alloc(double time, uint64_t address, uint64_t size, uint32_t stack, uint32_t thread = 1,
             Domain domain = Domain::kHeap) {
    replay_.OnAlloc({At(time), ThreadId{thread}, domain, AllocFunction::kMalloc, StackId{stack},
                     address, size});
  }
  void Free(double time, uint64_t address) {
    replay_.OnFree({At(time), ThreadId{1}, Domain::kHeap, address});
  }
  void Map(double time, uint64_t address, uint64_t length, uint32_t stack,
           MapKind kind = kMapAnonymous, uint8_t protection = 3) {
    replay_.OnMap({At(time), ThreadId{1}, AllocFunction::kMmap, StackId{stack}, address, length,
                   protection, kind});
  }
  void Thread(uint32_t id, const char* name) {
    replay_.OnThread({ThreadId{id}, At(0), id, Of(name)});
  }
  void Sample(double time, uint64_t anon) {
    SampleRecord sample;
    sample.time_ns = At(time);
    sample.rss_anon = anon;
    sample.rss_file = 2 << 20;
    sample.rss_shmem = 0;
    sample.swap = 0;
    sample.retained = 65536;
    replay_.OnSample(sample);
  }
  Replay& replay() { return replay_; }
  ProcessHistory Finish(const char* path, const ReadSummary& summary) {
    ProcessHistory history = replay_.Finish(summary);
    history.path = path;
    return history;
  }

 private:
  Replay replay_;
};

ReadSummary Complete() {
  ReadSummary summary;
  summary.chunks = 3;
  summary.complete = true;
  return summary;
}

}  // namespace

ModuleIndex ExampleSymbols::AddModule(const ModuleSpec& spec) {
  for (size_t i = 0; i < paths_.size(); ++i) {
    if (paths_[i] == spec.path) return static_cast<ModuleIndex>(i);
  }
  paths_.push_back(spec.path);
  return static_cast<ModuleIndex>(paths_.size() - 1);
}

absl::Span<const Frame> ExampleSymbols::Lookup(ModuleIndex module, uint64_t address, AddressKind) {
  const auto it = names_.find({paths_[static_cast<size_t>(module)], address});
  if (it == names_.end()) return {};
  return it->second;
}

const ModuleStatus& ExampleSymbols::Status(ModuleIndex module) {
  return statuses_[paths_[static_cast<size_t>(module)]];
}

SessionHistory ExampleSession(const ReplayOptions& given) {
  ReplayOptions options = given;
  SessionHistory session;
  session.start_ns = kExampleStart;
  session.wall_ns = 1'764'000'000'000'000'000;
  session.since_ns = options.since_ns;
  session.until_ns = options.until_ns;
  session.requests = 120;
  for (int i = 0; i < 120; ++i) options.request_times.push_back(At(5 + i * 0.7));

  Process server(options, 100, 1, 0, "/opt/app/server", std::string("server\0--port\0008080", 18));
  server.Thread(1, "main");
  server.Thread(2, "worker");
  server.Alloc(0.5, 0x10, 50'000, 13);
  server.Alloc(0.6, 0x20, 300, 15);
  server.Alloc(0.7, 0x30, 40, 16);
  server.Alloc(0.8, 0x40, 512, 119);
  for (uint64_t i = 0; i < 120; ++i) {
    const double time = 4.9 + static_cast<double>(i) * 0.7;
    server.Alloc(time, 0x1000 + i, 1000, 10, 1 + i % 2);
    server.Alloc(time, 0x2000 + i, 4096, 12, 2);
    if (i >= 4) server.Free(time, 0x2000 + i - 4);
  }
  server.Map(1, 0x100000, 65536, 14);
  server.Map(1, 0x200000, 8 << 20, 14, kMapFilePrivate, 1);
  server.Map(1, 0x2000000, 64 << 20, 13, kMapAnonymous, 0);
  server.replay().OnCounters({StackId{10}, Domain::kHeap, 500, 5000, 0, 2000, At(5), At(89)});
  server.Sample(80, 3 << 20);
  server.replay().OnEnd({At(90), EndKind::kExited});
  session.processes.push_back(server.Finish("d/server.100.1.zst", Complete()));

  Process runner(options, 200, 100, 2, "/opt/app/runner",
                 std::string("runner\0--model\0m.gguf", 21));
  runner.Alloc(3, 0x10, 20'000, 13);
  runner.Alloc(3.5, 0x20, 3 << 20, 14, 1, Domain::kDevice);
  runner.Sample(60, 1 << 20);
  runner.replay().OnMessage({At(2), Of("OLLAMATRACE_MODE=banana: not known, survivors is used")});
  ReadSummary killed;
  killed.chunks = 1;
  killed.has_journal = true;
  session.processes.push_back(runner.Finish("d/runner.200.2.zst", killed));

  Process helper(options, 300, 100, 10, "/bin/sh", std::string("sh\0-c\0exec true", 15));
  helper.Alloc(10.1, 0x10, 64, 13);
  helper.replay().OnEnd({At(10.2), EndKind::kExec});
  session.processes.push_back(helper.Finish("d/sh.300.3.zst", Complete()));
  Process after(options, 300, 100, 10.3, "/bin/true", "true");
  after.replay().OnEnd({At(10.5), EndKind::kExited});
  ReadSummary damaged = Complete();
  damaged.damaged_chunks = 1;
  damaged.dropped_bytes = 77;
  damaged.notes = {"1 chunk is damaged (bad checksum) and was skipped"};
  session.processes.push_back(after.Finish("d/true.300.4.zst", damaged));
  MarkExecs(session.processes);
  return session;
}

void NameExample(ExampleSymbols& symbols) {
  for (const char* exe : {"/opt/app/server", "/opt/app/runner", "/bin/sh", "/bin/true"}) {
    symbols.Add(exe, 0x100, {{"main", "/src/app/main.cc", 10, false}});
    symbols.Add(exe, 0x200,
                {{"app::Server::Handle(app::Request const&)", "/src/app/server.cc", 42, false}});
    symbols.Add(exe, 0x1000,
                {{"app::(anonymous namespace)::Copy(char const*)", "/src/app/leak.cc", 7, true},
                 {"app::Leak(char const*)", "/src/app/leak.cc", 20, false}});
    symbols.Add(exe, 0x1100, {{"app::Cache::Insert(std::string)", "/src/app/cache.cc", 33, false}});
    symbols.Add(exe, 0x1200, {{"app::MakeTable()", "/src/app/table.cc", 5, false}});
    symbols.Add(exe, 0x1300, {{"app::LoadModel", "", 0, false}});
    for (uint64_t i = 0; i < 20; ++i) {
      symbols.Add(
          exe, 0x2000 + i * 16,
          {{"app::Descend(int)", "/src/app/deep.cc", static_cast<uint32_t>(100 + i), false}});
    }
    symbols.SetStatus(exe, {.state = ModuleState::kOk, .file = exe, .has_dwarf = true});
  }
  symbols.Add("/usr/lib/libruntime.so.1", 0x10, {{"operator new(unsigned long)", "", 0, false}});
  symbols.SetStatus(
      "/usr/lib/libruntime.so.1",
      {.state = ModuleState::kBuildIdDiffers,
       .message =
           "/usr/lib/libruntime.so.1: another file than the one that ran (its build-id differs)"});
}

}  // namespace ollamatrace
