// An NVML for machines without a GPU. The process uses FAKE_NVML bytes ("START:STEP") on each
// device: START, and STEP more at each look, until FakeNvmlUse says another figure; the device has
// 80 GiB, of which 1 GiB is others'. With FAKE_NVML_PID, the process is known by another pid.

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace {

std::atomic<uint64_t> g_looks{0};
std::atomic<uint64_t> g_used{0};

struct Memory {
  unsigned long long total, free, used;
};
struct Process {
  unsigned pid;
  unsigned long long used;
  unsigned gpu_instance, compute_instance;
};

unsigned long long Used() {
  if (g_used.load() != 0) return g_used.load();
  unsigned long long start = 0, step = 0;
  if (const char* const told = std::getenv("FAKE_NVML"))
    std::sscanf(told, "%llu:%llu", &start, &step);
  return start + step * g_looks.load();
}

}  // namespace

extern "C" {

int nvmlInit_v2() {
  return std::getenv("FAKE_NVML") == nullptr ? 9 /* NVML_ERROR_DRIVER_NOT_LOADED */ : 0;
}

// The fake driver's bus ids name the device.
int nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, void** device) {
  unsigned number;
  if (std::sscanf(bus_id, "0000:%x:00.0", &number) != 1) return 6 /* NVML_ERROR_NOT_FOUND */;
  *device = reinterpret_cast<void*>(uint64_t{number} + 1);
  return 0;
}

int nvmlDeviceGetMemoryInfo(void*, Memory* memory) {
  memory->total = 80ull << 30;
  memory->used = Used() + (1ull << 30);
  memory->free = memory->total - memory->used;
  return 0;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void*, unsigned* count, Process* processes) {
  if (*count < 2) return 7 /* NVML_ERROR_INSUFFICIENT_SIZE */;
  *count = 2;
  processes[0] = {1, 1ull << 30, 0, 0};
  const unsigned pid =
      std::getenv("FAKE_NVML_PID") != nullptr ? 2 : static_cast<unsigned>(getpid());
  processes[1] = {pid, Used(), 0, 0};
  ++g_looks;
  return 0;
}

// For the script: how often it was asked, and what it shall answer from now on.
uint64_t FakeNvmlLooks() { return g_looks.load(); }
void FakeNvmlUse(uint64_t bytes) { g_used.store(bytes); }

}  // extern "C"
