#include "preload/session/drain_thread.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>

#include "preload/base/clock.h"
#include "preload/base/signal_block.h"
#include "preload/base/sys.h"
#include "preload/capture/modules.h"
#include "preload/drain/drain.h"
#include "preload/drain/memory_map_sampler.h"
#include "preload/drain/sampler.h"
#include "preload/gpu/gpu_capture.h"
#include "preload/hooks/real.h"
#include "preload/session/session.h"
#include "preload/session/snapshot.h"
#include "preload/session/thread.h"

namespace ollamatrace {
namespace {

constexpr size_t kStackBytes = 256u << 10;
constexpr int kStartTries = 3;
constexpr uint64_t kStartNs = 1'000'000'000;  // how long it may take to run
constexpr uint64_t kFinishNs = 5'000'000'000;
// The last look at the memory map is given up when it takes longer: the process wants to end.
constexpr uint64_t kWholeMapNs = 200'000'000;
// It is not taken at the end of a process this young: there are many of them.
constexpr uint64_t kWorthALookNs = 50'000'000;
// Nodes whose space is reserved ahead, so that the target's threads need no system call for it.
constexpr uint64_t kNodesAhead = 16384;
// While there is work the thread looks again when it expects the fullest ring to be so full, of
// kFullRing: a producer that has to wake it pays for that, and one whose events are read while it
// writes them waits for its cache. When there is none, it looks more and more seldom.
constexpr uint32_t kWantedFull = kFullRing / 4;
constexpr uint64_t kShortestNapNs = 50'000;
constexpr uint64_t kShortNapNs = 2'000'000;
constexpr uint64_t kBusyNapNs = 50'000'000;
constexpr uint64_t kLongNapNs = 1'000'000'000;
constexpr unsigned long kTimerSlackNs = 5'000;
// A batch makes room for some: were all woken that wait, hundreds would keep the CPUs from the
// drain. Those that wait longest come first; each so many more wait as long again.
constexpr int kWokenByBatch = 64;
constexpr uint32_t kWaitersAtATime = 16;
constexpr uint32_t kLongestWait = 64;  // times the shortest

constexpr uint32_t kStarts = 1, kRuns = 2;
std::atomic<uint32_t> g_running{0};  // 0: there is none
std::atomic<int> g_failures{0};
std::atomic<bool> g_finish{false};
std::atomic<uint32_t> g_asleep{0};    // futex: 1 while the thread sleeps
std::atomic<uint32_t> g_progress{0};  // futex: counts batches
std::atomic<uint32_t> g_waiting{0};   // producers in WaitForDrain
constinit SamplerContext g_sampler;
constinit MemoryMapBuffers g_memory_map_buffers{};
constinit MemoryMapContext g_memory_map{&g_memory_map_buffers};
bool g_map_found = false;  // and not staged yet

void WakeSome(int producers) {
  g_progress.fetch_add(1, std::memory_order_seq_cst);
  if (g_waiting.load(std::memory_order_seq_cst) != 0) sys::FutexWake(&g_progress, producers);
}

struct timespec Duration(uint64_t nanoseconds) {
  return {static_cast<time_t>(nanoseconds / 1'000'000'000),
          static_cast<long>(nanoseconds % 1'000'000'000)};
}

void ReserveAhead() {
  const uint64_t nodes = g_session.journal.header()->next_node.load(std::memory_order_relaxed);
  if (nodes + kNodesAhead >= kMaxNodes) return;
  ReserveJournal(&g_session.journal, kNodesOffset + nodes * sizeof(StackNode),
                 kNodesAhead * sizeof(StackNode));
}

DrainStatus Batch() {
  ReserveAhead();
  const FutexLockHolder hold(&g_session.drain_lock);
  if (!GateIsOpen()) return DrainStatus::kIdle;
  return DrainBatch(g_session.drain, true);
}

// RssAnon + VmSwap at the last sample.
uint64_t g_held_bytes = kUnknownGauge;

// Goes on with the look at the memory map, where one is being taken. True: there is more to do.
bool StepMap() {
  if (!g_map_found) {
    const MapStep step = StepMemoryMap(&g_memory_map);
    if (step != MapStep::kDone) return step == MapStep::kMore;
    g_map_found = true;
  }
  MemoryMapRecord record;
  record.time_ns = g_memory_map.begin_ns;
  record.body = {reinterpret_cast<const char*>(g_memory_map.buffers->body), g_memory_map.body_size};
  const FutexLockHolder hold(&g_session.drain_lock);
  if (!GateIsOpen()) return false;
  const DrainStatus status = DrainMemoryMap(g_session.drain, record);
  // Otherwise later, when a chunk was written, or the reader is done.
  g_map_found = status == DrainStatus::kFull || status == DrainStatus::kPaused;
  return status == DrainStatus::kFull;
}

// A look at the memory map, from its beginning to its end.
void TakeWholeMap() {
  CloseMemoryMap(&g_memory_map);
  g_map_found = false;
  BeginMemoryMap(&g_memory_map, MonotonicNs());
  while (g_memory_map.cost_ns < kWholeMapNs && StepMap()) {
    if (g_map_found) Batch();
  }
  CloseMemoryMap(&g_memory_map);
}

void Sample() {
  SampleRecord record;
  TakeSample(&g_sampler, &record);
  if (record.rss_anon != kUnknownGauge && record.swap != kUnknownGauge) {
    g_held_bytes = record.rss_anon + record.swap;
  }
  if (!g_map_found && MemoryMapIsDue(&g_memory_map, record.time_ns, g_held_bytes)) {
    BeginMemoryMap(&g_memory_map, record.time_ns);
  }
  ReclaimDeadThreads();
  SampleGpu();
  DrainStatus status = DrainStatus::kIdle;
  {
    const FutexLockHolder hold(&g_session.drain_lock);
    if (GateIsOpen()) status = DrainSample(g_session.drain, record);
  }
  if (status == DrainStatus::kFailed) {
    StopFailedRecording();
  }
}

// See Session::clock_turn.
void StopClock() { g_session.clock_turn.store(0, std::memory_order_relaxed); }
void TurnClock(uint32_t* turn) {
  if (++*turn == 0) ++*turn;
  g_session.clock_turn.store(*turn, std::memory_order_relaxed);
}

// Sleeps until it is woken, or the time is over: whether that was it.
bool Nap(uint64_t nanoseconds) {
  const struct timespec timeout = Duration(nanoseconds);
  g_asleep.store(1, std::memory_order_seq_cst);
  if (g_finish.load(std::memory_order_seq_cst)) return false;
  const long result = sys::FutexWait(&g_asleep, 1, &timeout);
  g_asleep.store(0, std::memory_order_relaxed);
  return result == -ETIMEDOUT;
}

void* Run(void*) {
  t_thread.guard = kOwnWork;
  g_running.store(kRuns, std::memory_order_release);
  sys::FutexWake(&g_running, 1);
  // Whoever waited for that may have been put on this CPU: it goes on now, and not when the first
  // sample was taken.
  Nap(kShortestNapNs);
  sys::Call(__NR_prctl, 15 /* PR_SET_NAME */, sys::Arg("ollamatrace"));
  sys::Call(__NR_prctl, 29 /* PR_SET_TIMERSLACK */, kTimerSlackNs);
  const bool samples = g_session.settings.sample_ns != 0;
  const uint64_t interval = samples ? g_session.settings.sample_ns : kLongNapNs;
  uint64_t next_sample = MonotonicNs();
  uint64_t nap = kShortNapNs;
  uint64_t last_batch = MonotonicNs();
  uint32_t clock_turn = 0;
  bool mapping = false;
  while (GateIsOpen()) {
    if (g_session.clock_turn.load(std::memory_order_relaxed) != 0) TurnClock(&clock_turn);
    if (g_finish.load(std::memory_order_seq_cst)) {
      FinishSession();
      break;
    }
    ReadModuleFiles();
    const DrainStatus status = Batch();
    WakeSome(status == DrainStatus::kProgress ? kWokenByBatch : INT_MAX);
    if (status == DrainStatus::kFailed) {
      StopFailedRecording();
      break;
    }
    const uint64_t now = MonotonicNs();
    // What may take long comes now.
    if (now >= next_sample || mapping) StopClock();
    if (now >= next_sample) {
      NoticeUnloads();
      if (samples) {
        Sample();
      } else {
        ReclaimDeadThreads();
      }
      next_sample += interval;
      if (next_sample < now) next_sample = now + interval;
    }
    ServeSnapshot(g_finish, [] {
      StopClock();
      TakeWholeMap();
    });
    mapping = StepMap();
    if (status == DrainStatus::kProgress || mapping) {
      nap = kShortNapNs;
      continue;
    }
    uint64_t pause = nap;
    const uint32_t fullest = DrainFullest(g_session.drain);
    if (status == DrainStatus::kIdle && fullest != 0) {
      pause = (now - last_batch) * kWantedFull / fullest;
      if (pause < kShortestNapNs) pause = kShortestNapNs;
      if (pause > kBusyNapNs) pause = kBusyNapNs;
    }
    last_batch = now;
    if (next_sample > now && next_sample - now < pause) pause = next_sample - now;
    if (pause > kClockNs || status != DrainStatus::kIdle) {
      StopClock();
    } else {
      TurnClock(&clock_turn);
    }
    const bool quiet = Nap(pause) && fullest == 0;
    nap = quiet ? (nap * 2 < kLongNapNs ? nap * 2 : kLongNapNs) : kShortNapNs;
  }
  StopClock();
  g_running.store(0, std::memory_order_release);
  sys::FutexWake(&g_running, INT_MAX);
  WakeProducers();
  return nullptr;
}

}  // namespace

void StartDrainThread() {
  uint32_t none = 0;
  if (!g_session.may_start_thread || g_failures.load(std::memory_order_relaxed) >= kStartTries ||
      g_running.load(std::memory_order_relaxed) != 0) {
    return;
  }
  // A thread that a child of vfork starts ends with that child, and nobody would drain any more.
  if (!InOwnProcess() || !g_running.compare_exchange_strong(none, kStarts)) return;
  g_session.drain_due_ticks.store(~uint64_t{0}, std::memory_order_relaxed);
  const int saved_errno = errno;
  const OwnWork own;
  g_sampler.mallinfo2 = RealMallinfo2();
  pthread_attr_t attributes;
  bool started = false;
  if (pthread_attr_init(&attributes) == 0) {
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, kStackBytes);
    // By libc's call: the signals that it needs itself (setuid in all threads) stay open.
    sigset_t all, saved;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &saved) == 0) {
      pthread_t thread;
      started = pthread_create(&thread, &attributes, Run, nullptr) == 0;
      pthread_sigmask(SIG_SETMASK, &saved, nullptr);
    }
    pthread_attr_destroy(&attributes);
  }
  // glibc's first steps in a new thread are fatal in a sandbox that the target may enter next.
  const struct timespec timeout = Duration(kStartNs);
  if (started) sys::FutexWait(&g_running, kStarts, &timeout);
  if (!started) {
    g_failures.fetch_add(1, std::memory_order_relaxed);
    g_running.store(0, std::memory_order_release);
  }
  errno = saved_errno;
}

uint32_t DrainProgress() { return g_progress.load(std::memory_order_acquire); }

void WaitForDrain(uint32_t seen, uint64_t timeout_ns) {
  const uint32_t others = g_waiting.fetch_add(1, std::memory_order_seq_cst);
  const uint32_t times = 1 + others / kWaitersAtATime;
  const struct timespec timeout =
      Duration(timeout_ns * (times < kLongestWait ? times : kLongestWait));
  sys::FutexWait(&g_progress, seen, &timeout);
  g_waiting.fetch_sub(1, std::memory_order_relaxed);
}

void WakeProducers() { WakeSome(INT_MAX); }

bool DrainHint(bool pressing) {
  if (g_running.load(std::memory_order_relaxed) == 0) return false;
  if (pressing && g_asleep.load(std::memory_order_seq_cst) != 0 &&
      g_asleep.exchange(0, std::memory_order_seq_cst) != 0) {
    sys::FutexWake(&g_asleep, 1);
  }
  return true;
}

bool FinishOnDrainThread() {
  uint32_t running = g_running.load(std::memory_order_acquire);
  if (running == 0) return false;
  g_finish.store(true, std::memory_order_seq_cst);
  DrainHint(true);
  // What is not done by then is in the journal.
  const uint64_t deadline = MonotonicNs() + kFinishNs;
  const struct timespec timeout = Duration(kFinishNs / 100);
  while (running != 0 && MonotonicNs() < deadline) {
    sys::FutexWait(&g_running, running, &timeout);
    running = g_running.load(std::memory_order_acquire);
  }
  return !GateIsOpen() || running != 0;  // neither: it could not be started after all
}

void TakeFinalSample() {
  if (g_session.settings.sample_ns == 0) return;
  // exit() may have been called by a handler that interrupted malloc, which holds its lock.
  g_sampler.mallinfo2 = nullptr;
  Sample();
  if (MonotonicNs() < g_session.journal.header()->start_ns + kWorthALookNs) return;
  TakeWholeMap();
}

void ForgetDrainThread() {
  StopClock();
  g_running.store(0, std::memory_order_relaxed);
  g_failures.store(0, std::memory_order_relaxed);
  g_finish.store(false, std::memory_order_relaxed);
  g_asleep.store(0, std::memory_order_relaxed);
  g_progress.store(0, std::memory_order_relaxed);
  g_waiting.store(0, std::memory_order_relaxed);
  CloseSampler(&g_sampler);  // what was inherited tells the parent's figures
  g_sampler = SamplerContext{};
  CloseMemoryMap(&g_memory_map);
  g_memory_map.origin_ns = g_memory_map.not_before_ns = g_memory_map.due_ns = 0;
  g_memory_map.has_held = false;
  g_map_found = false;
  ForgetSnapshot();
}

}  // namespace ollamatrace
