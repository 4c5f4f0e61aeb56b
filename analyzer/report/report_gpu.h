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

struct ReportGpu {
  // "active", "partial", "prepared", "unavailable"; empty: the trace does not tell.
  std::string capture;
  std::string reason;  // a sentence; may be empty
  std::string where;   // files; may be empty
  bool driver_loaded = false;
  std::vector<ReportGpuLedger> ledgers;  // by device, then domain
  uint64_t failed_allocations = 0;
  uint64_t failed_frees = 0;
  std::vector<ReportGpuFailure> failures;  // the first ones

  // Bytes that the program holds on devices, and page-locked on the host.
  uint64_t live_bytes = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_REPORT_GPU_H_
