#include "analyzer/report/estimate_text.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analyzer/text/units.h"

namespace ollamatrace {

std::string EstimateText(uint64_t live_bytes, uint64_t live_blocks, const ReportErrors& errors) {
  return absl::StrCat(FormatBytes(static_cast<double>(live_bytes)), " +- ",
                      FormatBytes(errors.live_bytes), " in ", FormatCount(live_blocks), " +- ",
                      errors.live_blocks < 100
                          ? absl::StrFormat("%.1f", errors.live_blocks)
                          : FormatCount(static_cast<uint64_t>(errors.live_blocks)),
                      live_blocks == 1 ? " block" : " blocks", ", estimated from ",
                      FormatCount(errors.sampled_blocks), " sampled");
}

}  // namespace ollamatrace
