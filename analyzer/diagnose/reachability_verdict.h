// What a scan of the process (`ollama-leakview scan`) adds to a verdict: a block that nothing
// points to can be freed by nobody, whatever its curve looks like.
#ifndef OLLAMATRACE_ANALYZER_DIAGNOSE_REACHABILITY_VERDICT_H_
#define OLLAMATRACE_ANALYZER_DIAGNOSE_REACHABILITY_VERDICT_H_

#include <cstdint>

#include "analyzer/diagnose/verdict.h"
#include "analyzer/load/scan_file.h"

namespace ollamatrace {

// Of the live bytes, at least this share definitely or indirectly lost: the blocks are no cache's
// and no container's, since nobody can find them there.
inline constexpr double kLeastLostOfALeak = 0.5;

// The last scan's of a group's blocks.
struct GroupLost {
  LostBlocks blocks;
  double scan_seconds = 0;  // since the session's start
  uint64_t live_bytes = 0;  // of the group, now
  bool grows = false;
};

// Adds the evidence, where anything is lost; then a leak is one more surely, and what grows, or
// what there was not enough data for, is a leak where most of it is lost. What was lost once and
// does not grow stays what it is.
void ApplyScan(const GroupLost& lost, Diagnosis& diagnosis);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_DIAGNOSE_REACHABILITY_VERDICT_H_
