#include "preload/hooks/sampling.h"

#include <sys/auxv.h>

#include <atomic>
#include <cstring>

#include "preload/base/clock.h"
#include "preload/base/sys.h"
#include "preload/session/session.h"

namespace ollamatrace {

constinit SampledBlocks g_sampled_blocks;
uint64_t g_sample_bytes = 0;

namespace {

// While the drain's thread is not there, each thread comes by so often: it may be due. It is after
// so many visits, or when the process is old enough (see drain_due_ticks).
constexpr uint64_t kVisitBytes = 4096;
constexpr uint32_t kQuietVisits = 4;
constexpr uint64_t kNeverDue = ~uint64_t{0};

void* g_table = nullptr;
uint64_t g_process_seed = 0;
std::atomic<uint64_t> g_threads_seeded{0};
std::atomic<uint32_t> g_visits{0};

uint64_t Mix(uint64_t value) {
  value = (value ^ value >> 33) * UINT64_C(0xFF51AFD7ED558CCD);
  value = (value ^ value >> 33) * UINT64_C(0xC4CEB9FE1A85EC53);
  return value ^ value >> 33;
}

uint64_t VisitBytes(uint64_t drain_due_ticks) {
  return drain_due_ticks == kNeverDue ? kNeverDue : kVisitBytes;
}

PoissonSampler* Sampler(uint64_t visit) {
  PoissonSampler* const sampler = &t_thread.sampler;
  if (__builtin_expect(!sampler->seeded(), 0)) {
    const uint64_t thread = g_threads_seeded.fetch_add(1, std::memory_order_relaxed);
    sampler->Seed(Mix(g_process_seed + Mix(thread + 1)), g_sample_bytes, visit);
    // With the thread's first call, as in the other modes: it may need system calls that the thread
    // is not allowed later.
    if (t_thread.state == nullptr) AttachThread();
  }
  return sampler;
}

}  // namespace

bool StartSampling(uint64_t sample_bytes) {
  g_sample_bytes = 0;
  if (sample_bytes == 0) return true;
  const size_t bytes = SampledBlocks::TableBytes();
  g_table = sys::MmapPrivate(bytes, MAP_NORESERVE);
  if (g_table == nullptr) return false;
  sys::Madvise(g_table, bytes, 15 /* MADV_NOHUGEPAGE */);
  g_sampled_blocks.Init(g_table);
  // 16 random bytes of the kernel's, the same in a fork child: its pid and the time are not.
  uint64_t random[2] = {};
  if (const auto address = getauxval(AT_RANDOM); address != 0) {
    memcpy(random, reinterpret_cast<const void*>(address), sizeof random);
  }
  g_process_seed = Mix(random[0] ^ ReadTicks()) ^
                   Mix(random[1] ^ MonotonicNs() ^ static_cast<uint64_t>(sys::Getpid()) << 40);
  g_visits.store(0, std::memory_order_relaxed);
  g_sample_bytes = sample_bytes;
  return true;
}

void ForgetSampling() {
  t_thread.sampler = {};
  g_sampled_blocks.Clear();
  if (g_table != nullptr) sys::Munmap(g_table, SampledBlocks::TableBytes());
  g_table = nullptr;
}

bool IsYoung() {
  return !t_thread.sampler.seeded() ||
         g_session.drain_due_ticks.load(std::memory_order_relaxed) != kNeverDue;
}

bool TakeSample(const void* block, size_t size) {
  const uint64_t due = g_session.drain_due_ticks.load(std::memory_order_relaxed);
  const bool drawn = Sampler(VisitBytes(due))->Draw(size, g_sample_bytes, VisitBytes(due));
  if (due != kNeverDue &&
      (g_visits.fetch_add(1, std::memory_order_relaxed) >= kQuietVisits || ReadTicks() >= due)) {
    StartDrainThread();
  }
  // A block that cannot be recorded must not be remembered.
  if (!drawn || (t_thread.state == nullptr && AttachThread() == nullptr)) return false;
  if (g_sampled_blocks.Add(block)) return true;
  CountLoss(LossKind::kOther);
  return false;
}

bool DropSample(const void* block) {
  // A thread that only frees needs a sampler, too: its frees pass from then on.
  Sampler(VisitBytes(g_session.drain_due_ticks.load(std::memory_order_relaxed)));
  return g_sampled_blocks.MayContain(block) && g_sampled_blocks.Remove(block);
}

bool KeepSample(const void* block) {
  if (g_sampled_blocks.Add(block)) return true;
  CountLoss(LossKind::kOther);
  return false;
}

}  // namespace ollamatrace
