#include "analyzer/diagnose/reachability_verdict.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

// A conservative scan calls too much reachable, hardly ever too much lost.
constexpr double kConfidence = 0.95;

std::string Evidence(const GroupLost& lost) {
  std::vector<std::string> parts;
  const auto add = [&](const char* name, const BlockSum& sum) {
    if (sum.blocks == 0) return;
    parts.push_back(absl::StrCat(name, " lost: ", FormatCount(sum.bytes), " bytes in ",
                                 FormatCount(sum.blocks), sum.blocks == 1 ? " block" : " blocks"));
  };
  add("definitely", lost.blocks.definitely);
  add("indirectly", lost.blocks.indirectly);
  add("possibly", lost.blocks.possibly);
  if (parts.empty()) return "";
  return absl::StrCat(absl::StrJoin(parts, ", "), " (scan at ", FormatSeconds(lost.scan_seconds),
                      ")");
}

}  // namespace

void ApplyScan(const GroupLost& lost, Diagnosis& diagnosis) {
  std::string evidence = Evidence(lost);
  if (evidence.empty()) return;
  diagnosis.evidence.push_back(std::move(evidence));
  if (lost.blocks.definitely.blocks == 0) return;

  if (diagnosis.verdict == Verdict::kLeak) {
    diagnosis.confidence = std::max(diagnosis.confidence, kConfidence);
    return;
  }
  const uint64_t gone = lost.blocks.definitely.bytes + lost.blocks.indirectly.bytes;
  const bool most =
      static_cast<double>(gone) >= kLeastLostOfALeak * static_cast<double>(lost.live_bytes);
  if (!most || (!lost.grows && diagnosis.verdict != Verdict::kLive)) return;
  diagnosis.evidence.push_back(absl::StrCat("by its curve: ", VerdictName(diagnosis.verdict)));
  diagnosis.verdict = Verdict::kLeak;
  diagnosis.confidence = kConfidence;
  diagnosis.advice =
      "look for where the last pointer to what the marked function returned is overwritten or "
      "goes out of scope";
}

}  // namespace ollamatrace
