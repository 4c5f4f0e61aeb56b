#include "preload/session/session.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/encode.h"
#include "preload/base/clock.h"
#include "preload/base/exe_path.h"
#include "preload/base/own_memory.h"
#include "preload/base/signal_block.h"
#include "preload/base/sys.h"
#include "preload/base/text.h"
#include "preload/capture/modules.h"
#include "preload/capture/unwinder.h"
#include "preload/gpu/gpu_capture.h"
#include "preload/hooks/sampling.h"
#include "preload/session/drain_thread.h"
#include "preload/session/files.h"
#include "preload/session/thread.h"

extern "C" int __cxa_atexit(void (*)(void*), void*, void*);

namespace ollamatrace {

constinit Session g_session;

namespace {

std::atomic<uint32_t> g_closed_gate{0};

}  // namespace

std::atomic<uint32_t>* g_gate = &g_closed_gate;

namespace {

constexpr int kWipeOnFork = 18;            // MADV_WIPEONFORK, Linux 4.14
constexpr int kNoHugePage = 15;            // MADV_NOHUGEPAGE
constexpr uint64_t kQuietNs = 50'000'000;  // see drain_due_ticks
constexpr int kFinishBatches = 1000;
constexpr uint64_t kRelieveWaitNs = 2'000'000;

bool g_forked_by_libc = false;
void* g_drain_memory = nullptr;
size_t g_drain_bytes = 0;
void* g_table_memory = nullptr;

// Buffers that are too large for a small stack. Used by the one thread that starts the session.
char g_exe[kMaxPathBytes];
char g_arguments[16u << 10];
uint8_t g_header[kHeaderBytes];

char g_folder_setting[kMaxOwnPath];
char g_temporary_setting[kMaxOwnPath];

// A copy of `text` in `out`; nullptr of nullptr, and of a text that is too long for a path.
const char* KeepText(const char* text, char (&out)[kMaxOwnPath]) {
  if (text == nullptr) return nullptr;
  TextWriter copy(out, sizeof out);
  copy.Put(text);
  return copy.cut() ? nullptr : out;
}

size_t ReadFile(const char* path, char* out, size_t capacity) {
  const long fd = sys::Open(path, O_RDONLY | O_CLOEXEC);
  if (sys::Failed(fd)) return 0;
  size_t size = 0;
  while (size < capacity) {
    const long got = sys::Read(static_cast<int>(fd), out + size, capacity - size);
    if (got <= 0) break;
    size += static_cast<size_t>(got);
  }
  sys::Close(static_cast<int>(fd));
  return size;
}

// Field 22 of /proc/self/stat: clock ticks since boot. 0 when it cannot be read.
uint64_t ProcessStart() {
  char stat[512];
  const size_t size = ReadFile("/proc/self/stat", stat, sizeof stat);
  // The program's name, field 2, may hold anything: fields are counted from its last parenthesis.
  size_t i = size;
  while (i > 0 && stat[i - 1] != ')') --i;
  int field = 2;
  while (i < size && field < 22) {
    if (stat[i++] == ' ') ++field;
  }
  size_t end = i;
  while (end < size && stat[end] >= '0' && stat[end] <= '9') ++end;
  uint64_t start = 0;
  return ParseNumber(stat + i, end - i, &start) ? start : 0;
}

const char* ReadExe() {
  ReadExePath(g_exe, sizeof g_exe);
  const char* const name = BaseName(g_exe);
  return name[0] == '\0' ? "unknown" : name;
}

// The environment before libc has it (a call from .preinit_array). The memory is kept. nullptr when
// it cannot be read.
char* const* InitialEnvironment() {
  constexpr size_t kTextBytes = 256u << 10;
  constexpr size_t kEntries = 8192;
  auto* const memory =
      static_cast<char*>(MapOwn(kTextBytes + kEntries * sizeof(char*), MAP_NORESERVE));
  if (memory == nullptr) return nullptr;
  auto* const entries = reinterpret_cast<char**>(memory + kTextBytes);
  const size_t size = ReadFile("/proc/self/environ", memory, kTextBytes - 1);
  size_t count = 0;
  for (size_t i = 0; i < size && count < kEntries - 1; ++i) {
    if (i == 0 || memory[i - 1] == '\0') entries[count++] = memory + i;
  }
  return entries;
}

bool WriteIdentity(bool forked, uint64_t start_ns, uint64_t wall_ns) {
  Journal* const journal = &g_session.journal;
  HeaderRecord record;
  record.pid = static_cast<uint32_t>(sys::Getpid());
  record.ppid = static_cast<uint32_t>(sys::Getppid());
  record.start_ns = start_ns;
  record.wall_ns = wall_ns;
  record.process_start = ProcessStart();
  record.mode = g_session.settings.mode;
  record.sample_bytes = g_session.settings.sample_bytes;
  record.page_bytes = static_cast<uint32_t>(sysconf(_SC_PAGESIZE));
  record.born_by_fork = forked ? 1 : 0;
  record.exe = {g_exe, strlen(g_exe)};
  size_t arguments = ReadFile("/proc/self/cmdline", g_arguments, sizeof g_arguments);
  if (arguments > 0 && g_arguments[arguments - 1] == '\0') --arguments;
  record.argv = {g_arguments, arguments};
  record.library = {OLLAMATRACE_VERSION, strlen(OLLAMATRACE_VERSION)};
#if defined(__x86_64__)
  record.architecture = {"x86_64", 6};
#else
  record.architecture = {"aarch64", 7};
#endif
  const size_t size = EncodeHeader(record, g_header);
  if (size > kIdentityBytes || !ReserveJournal(journal, kIdentityOffset, size)) return false;
  memcpy(journal->identity(), g_header, size);
  JournalHeader* const header = journal->header();
  memcpy(header->magic, kJournalMagic, sizeof header->magic);
  header->version = kJournalVersion;
  header->pid = record.pid;
  header->mode = static_cast<uint32_t>(record.mode);
  header->process_start = record.process_start;
  header->start_ns = start_ns;
  header->wall_ns = wall_ns;
  header->identity_bytes = static_cast<uint32_t>(size);
  header->own_mappings = reinterpret_cast<uint64_t>(&g_own_mappings);
  header->pool_capacity = kDefaultBlocks;
  header->next_node.store(1, std::memory_order_relaxed);
  header->next_thread.store(1, std::memory_order_relaxed);
  return true;
}

// Everything of the parent's that this child must not touch: its files stay the parent's.
void ForgetParent() {
  if (g_session.journal.base != nullptr) sys::Munmap(g_session.journal.base, kJournalBytes);
  g_session.journal.base = nullptr;
  CloseOwnFile(&g_session.journal.file, false);
  CloseOwnFile(&g_session.trace, false);
  for (auto& word : g_session.journal.reserved) word.store(0, std::memory_order_relaxed);
  if (g_session.drain != nullptr) ForgetDrain(g_session.drain);
  if (g_drain_memory != nullptr) sys::Munmap(g_drain_memory, g_drain_bytes);
  if (g_table_memory != nullptr) sys::Munmap(g_table_memory, StackTable::Bytes());
  g_drain_memory = g_table_memory = nullptr;
  g_session.drain = nullptr;
  g_session.drain_lock.Reset();
  g_session.definitions_lock.Reset();
  ResetJournalLock();
  for (auto& place : g_session.places) place.store(0, std::memory_order_relaxed);
  ForgetThreads();
  ForgetSampling();
  ForgetDrainThread();
  g_session.settings.complaints[0] = '\0';
}

void PutInTrace(const char* lines) {
  while (*lines != '\0') {
    const char* end = lines;
    while (*end != '\0' && *end != '\n') ++end;
    char message[512];
    TextWriter text(message, sizeof message);
    text.Put(lines, static_cast<size_t>(end - lines));
    RecordMessage(message);
    lines = *end == '\0' ? end : end + 1;
  }
}

// What a fork child gets instead of the parent's open gate.
bool MakeGate() {
  if (g_gate != &g_closed_gate) return true;
  void* const page = MapOwn(kJournalPage);
  if (page == nullptr) return false;
  sys::Madvise(page, kJournalPage, kWipeOnFork);
  g_gate = static_cast<std::atomic<uint32_t>*>(page);
  return true;
}

void OnForkInChild() {
  g_forked_by_libc = true;
  g_session.stopped.store(false, std::memory_order_relaxed);  // the losses are the parent's
  t_thread.sampler = {};  // the first call begins the child's session
  // Kernels before 4.14 did not clear it.
  if (g_gate != &g_closed_gate) g_gate->store(0, std::memory_order_relaxed);
}

void FinishRecording(void*);

// False: this process is not traced; the reason, if there is one to tell, is in the log.
bool Start(bool forked) {
  const uint64_t start_ns = MonotonicNs();
  const uint64_t wall_ns = RealtimeNs();
  if (forked) {
    ForgetParent();
    g_session.may_start_thread = g_forked_by_libc;
    g_forked_by_libc = false;
  } else {
    InitTicks();
  }
  TimeAnchors anchors;
  anchors.ticks0 = ReadTicks();
  anchors.ns0 = MonotonicNs();
  const char* const exe = ReadExe();
  Settings* const settings = &g_session.settings;
  if (!forked) {
    ReadSettings(environ != nullptr ? environ : InitialEnvironment(), exe, settings);
    if (!settings->traced) return false;
    // A program may write over its environment (setproctitle) before it forks.
    settings->folder = KeepText(settings->folder, g_folder_setting);
    settings->temporary = KeepText(settings->temporary, g_temporary_setting);
  }
  if (!MakeGate()) return false;
  if (!CreateSessionFiles(settings, exe, start_ns, &g_session.journal, &g_session.trace)) {
    return false;
  }
  Journal* const journal = &g_session.journal;
  DrainOptions options;
  options.journal = journal;
  options.trace = &g_session.trace;
  options.mode = settings->mode;
  options.max_bytes = settings->max_bytes;
  options.sample_bytes = settings->sample_bytes;
  g_drain_bytes = DrainBytes(options);
  g_drain_memory = MapOwn(g_drain_bytes, MAP_NORESERVE);
  g_table_memory = MapOwn(StackTable::Bytes(), MAP_NORESERVE);
  // Touched here and there: a huge page each time would cost more than all that is used.
  if (g_drain_memory != nullptr) sys::Madvise(g_drain_memory, g_drain_bytes, kNoHugePage);
  if (g_table_memory != nullptr) sys::Madvise(g_table_memory, StackTable::Bytes(), kNoHugePage);
  if (g_drain_memory != nullptr && g_table_memory != nullptr &&
      StartSampling(settings->sample_bytes) &&
      ReserveJournal(journal, kUndoOffset, kUndoWords * 8) &&
      ReserveJournal(journal, kDefinitionsOffset, kDefinitionsBytes) &&
      WriteIdentity(forked, start_ns, wall_ns)) {
    anchors.ticks1 = ReadTicks();
    anchors.ns1 = MonotonicNs();
    journal->header()->anchors = anchors;
    const uint64_t ns = anchors.ns1 > anchors.ns0 ? anchors.ns1 - anchors.ns0 : 1;
    g_session.drain_due_ticks.store(
        anchors.ticks1 + (anchors.ticks1 - anchors.ticks0) * (kQuietNs / 1000) / (ns / 1000 + 1),
        std::memory_order_relaxed);
    g_session.drain = CreateDrain(g_drain_memory, options);
  }
  if (g_session.drain == nullptr) {
    WriteLog("not traced: no memory or no disk space for the journal\n");
    CloseJournal(journal, true);
    CloseOwnFile(&g_session.trace, true);
    return false;
  }
  g_session.stacks.Init(
      journal, g_table_memory,
      settings->sample_bytes != 0 ? StackTable::kFewSeenLines : StackTable::kSeenLines);
  journal->header()->state.store(static_cast<uint32_t>(JournalState::kActive),
                                 std::memory_order_release);
  g_gate->store(1, std::memory_order_release);
  if (forked) {
    RedefineModules();
    RepeatGpuCapture();
  } else {
    if (!capture::InitUnwinder(settings->unwinder)) {
      RecordMessage("OLLAMATRACE_UNWINDER is ignored: no such unwinder can be loaded");
    }
    InitModules(DefineRecord, [] { DrainHint(true); });
    RefreshModules();
    ReadModuleFiles();
    InitThreads();
    pthread_atfork(nullptr, nullptr, OnForkInChild);
    // Registered before the dynamic linker's own finalizer, hence called after it: last of all.
    __cxa_atexit(FinishRecording, nullptr, nullptr);
  }
  PutInTrace(settings->complaints);
  return true;
}

// Begins at the latest when the library is loaded. Here, and not in the first hook, which setenv
// itself may have called, the environment is made fit for children that stand in another folder.
__attribute__((constructor)) void OnLoad() {
  const OwnWork own;
  if (!EnsureRecording()) return;
  const char* const folder = g_session.settings.folder;
  const int saved_errno = errno;
  if (folder == nullptr || folder[0] != '/') setenv("OLLAMATRACE_DIR", SessionFolder(), 1);
  PrepareGpuCapture();
  errno = saved_errno;
}

void FinishRecording(void*) {
  if (!GateIsOpen()) return;
  // Not OwnWork: a sandboxed process may die of any system call but the futex's.
  t_thread.guard = kOwnWork;
  if (!FinishOnDrainThread()) {
    const SignalBlock no_signals;
    FinishSession();
  }
  t_thread.guard = kIdle;
}

}  // namespace

bool EnsureRecording() {
  const Phase phase = g_session.phase.load(std::memory_order_acquire);
  if (phase == Phase::kOff || phase == Phase::kStarting) return false;
  if (phase == Phase::kRecording && GateIsOpen()) return true;
  Phase expected = phase;
  if (!g_session.phase.compare_exchange_strong(expected, Phase::kStarting)) return false;
  const int saved_errno = errno;
  const OwnWork own;
  const bool forked = phase == Phase::kRecording;
  const bool started = Start(forked);
  if (!started) g_gate->store(0, std::memory_order_relaxed);
  g_session.phase.store(started ? Phase::kRecording : Phase::kOff, std::memory_order_release);
  errno = saved_errno;
  return started;
}

void FinishSession() {
  TakeFinalSample();
  {
    const FutexLockHolder hold(&g_session.drain_lock);
    // Other threads go on until the process has ended: the gate stays open for them as long as it
    // can.
    for (int i = 0; i < kFinishBatches; ++i) {
      if (DrainBatch(g_session.drain, true) != DrainStatus::kProgress) break;
    }
    g_session.phase.store(Phase::kOff, std::memory_order_release);
    g_gate->store(0, std::memory_order_release);
    const bool finished = DrainFinish(g_session.drain, EndKind::kExited) == DrainStatus::kIdle;
    // They may still be in a hook: what they use stays mapped.
    if (finished) RemoveJournalFile(&g_session.journal);
  }
  WakeProducers();
}

void StopRecording(const char* reason, long error) {
  const SignalBlock no_signals;
  Phase expected = Phase::kRecording;
  if (!g_session.phase.compare_exchange_strong(expected, Phase::kOff)) return;
  g_session.stopped.store(true, std::memory_order_relaxed);
  char text[256];
  TextWriter message(text, sizeof text);
  message.Put("recording stopped: ").Put(reason);
  if (error != 0) message.Put(" (error ").Number(static_cast<uint64_t>(-error)).Put(')');
  RecordMessage(text);
  g_gate->store(0, std::memory_order_release);
  g_session.journal.header()->state.store(static_cast<uint32_t>(JournalState::kStopped),
                                          std::memory_order_release);
  message.Put('\n');
  WriteLog(text);
  WakeProducers();
}

void StopFailedRecording() {
  const long failure = DrainFailure(g_session.drain);
  if (failure == kTraceLimitReached) {
    StopRecording("OLLAMATRACE_MAX_BYTES is reached, and nothing more can be dropped", 0);
  } else {
    StopRecording("the trace cannot be written", failure);
  }
}

void DefineRecord(const uint8_t* record, size_t size) {
  JournalHeader* const header = g_session.journal.header();
  const SignalBlock no_signals;
  for (int tries = 0;; ++tries) {
    {
      FutexLockHolder hold(&g_session.definitions_lock);
      const uint64_t head = header->definitions_head.load(std::memory_order_relaxed);
      const uint64_t released = header->definitions_released.load(std::memory_order_acquire);
      if (head + 4 + size - released <= kDefinitionsBytes) {
        uint8_t* const ring = g_session.journal.definitions();
        const uint8_t length[4] = {static_cast<uint8_t>(size), static_cast<uint8_t>(size >> 8),
                                   static_cast<uint8_t>(size >> 16),
                                   static_cast<uint8_t>(size >> 24)};
        for (size_t i = 0; i < 4; ++i) ring[(head + i) % kDefinitionsBytes] = length[i];
        const uint64_t at = (head + 4) % kDefinitionsBytes;
        const uint64_t first = kDefinitionsBytes - at < size ? kDefinitionsBytes - at : size;
        memcpy(ring + at, record, first);
        memcpy(ring, record + first, size - first);
        header->definitions_head.store(head + 4 + size, std::memory_order_release);
        return;
      }
    }
    if (!GateIsOpen() || tries == 1000) break;
    RelieveAny();
  }
  CountLoss(LossKind::kOther);
}

void RecordMessage(const char* text) {
  uint8_t encoded[640];
  const size_t size = strlen(text);
  DefineRecord(encoded, EncodeMessage({MonotonicNs(), {text, size < 512 ? size : 512}}, encoded));
}

bool Relieve(RingEntry* ring, uint32_t ring_index) {
  while (GateIsOpen() && ring->head.load(std::memory_order_relaxed) -
                                 ring->released.load(std::memory_order_acquire) >=
                             RingCapacity(ring_index)) {
    g_session.journal.header()->scan_all.store(1, std::memory_order_release);
    RelieveAny();
  }
  return GateIsOpen();
}

namespace {

// Drains on the calling thread, which there is no other to do.
DrainStatus DrainHere() {
  const SignalBlock no_signals;
  if (!g_session.drain_lock.TryLock()) return DrainStatus::kIdle;
  DrainStatus status = DrainStatus::kIdle;
  if (GateIsOpen()) status = DrainBatch(g_session.drain, true);
  g_session.drain_lock.Unlock();
  WakeProducers();
  return status;
}

}  // namespace

void RelieveAny() {
  const uint32_t seen = DrainProgress();
  // A sandboxed thread may be killed for any call but the futex's.
  if (!DrainHint(true)) {
    const DrainStatus status = DrainHere();
    if (status == DrainStatus::kProgress) return;
    if (status == DrainStatus::kFailed) {
      StopFailedRecording();
      return;
    }
  }
  // What is there waits for another producer, a reader, or the drain's thread.
  WaitForDrain(seen, kRelieveWaitNs);
}

}  // namespace ollamatrace
