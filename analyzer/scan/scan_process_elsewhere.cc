// Where registers are not known: not x86-64.
#include "analyzer/scan/scan_process.h"

namespace ollamatrace {

absl::StatusOr<Scan> ScanProcess(pid_t) { return absl::UnimplementedError("scan: only on x86-64"); }

}  // namespace ollamatrace
