// The part of a report that is about one process's GPU memory.
#ifndef OLLAMATRACE_ANALYZER_REPORT_REPORT_GPU_H_
#define OLLAMATRACE_ANALYZER_REPORT_REPORT_GPU_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ollamatrace {

// One ledger: a domain on a device.
struct ReportGpuLedger {
  std::optional<uint32_t> device;  // its ordinal; nothing where it is not known
  std::string domain;              // as DomainName says
  bool memory = true;              // false: it refers to other memory, or is merely counted
  uint64_t live_bytes = 0;
  uint64_t live_blocks = 0;
  uint64_t peak_bytes = 0;
  uint64_t allocations = 0;
  uint64_t frees = 0;  // by calls
  uint64_t implicitly_freed_blocks = 0;
  uint64_t implicitly_freed_bytes = 0;
  // Domain "device": what rounding to pages of 2 MiB may cost on top, an estimate.
  std::optional<uint64_t> rounding_bytes;
};

struct ReportGpuFailure {
  double at = 0;
  std::string kind;  // "allocation", "free"
  std::optional<uint32_t> device;
  std::string domain;
  std::string function;  // the driver's
  uint32_t status = 0;   // CUresult
  uint64_t size = 0;
  // Free on the device at the last sample before; nothing where that is not known.
  std::optional<uint64_t> free_bytes;
  std::vector<uint32_t> frames;  // indices into Report::frames, innermost first
};

// What came when the residual changed.
struct ReportResidualStage {
  // "context"; "library": cuBLAS and its like at their first use; "modules": device code; "graphs":
  // executable ones; "other"
  std::string stage;
  uint64_t count = 0;  // so many at the last sample; 0 for "other"
  int64_t bytes = 0;
};

// What a process uses on a device and the trace does not know. Managed memory is in it. No leak by
// itself. `first` and `last` are of the first and the last sample.
struct ReportResidual {
  int64_t first = 0;
  int64_t last = 0;
  double seconds = 0;  // between them
  // The slope after the first quarter, without what came with the first use of a library, and its
  // 95 % interval; from 8 samples on.
  std::optional<double> per_hour;
  double per_hour_low = 0;
  double per_hour_high = 0;
  std::vector<ReportResidualStage> stages;  // their bytes are `last`
};

// A device, as NVML has seen it. Bytes.
struct ReportGpuDevice {
  uint32_t device = 0;
  uint64_t samples = 0;
  std::optional<uint64_t> total;
  std::optional<uint64_t> used;            // by all, at the last sample
  std::optional<uint64_t> process;         // by this process, at the last sample
  uint64_t traced = 0;                     // at the last sample
  uint64_t module_bytes = 0;               // images of the modules of device code that were loaded
  std::optional<ReportResidual> residual;  // nothing: the process's bytes are not known
};

struct ReportGpu {
  // "active", "partial", "prepared", "unavailable"; empty: the trace does not tell.
  std::string capture;
  std::string reason;  // a sentence; may be empty
  std::string where;   // files; may be empty
  bool driver_loaded = false;
  std::vector<ReportGpuLedger> ledgers;  // by device, then domain
  std::vector<ReportGpuDevice> devices;
  uint64_t failed_allocations = 0;
  uint64_t failed_frees = 0;
  std::vector<ReportGpuFailure> failures;  // the first ones

  // Bytes that the program holds on devices, and page-locked on the host.
  uint64_t live_bytes = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_REPORT_GPU_H_
