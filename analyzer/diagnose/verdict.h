// What a group of blocks is: a leak, a cache, ... The rules and their failure modes are told in
// VERDICTS.md; the thresholds stand here.
#ifndef OLLAMATRACE_ANALYZER_DIAGNOSE_VERDICT_H_
#define OLLAMATRACE_ANALYZER_DIAGNOSE_VERDICT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "analyzer/diagnose/advice.h"
#include "analyzer/diagnose/group_history.h"
#include "analyzer/diagnose/phases.h"

namespace ollamatrace {

enum class Verdict {
  kLeak,                 // grows to the end, and its blocks stay
  kGrowthPerRequest,     // grows to the end, though its blocks are replaced or may be a cache's
  kRetainedAfterUnload,  // belongs to what was unloaded, and is still there
  kCache,                // turns over, is emptied now and then, or fills up to a cap
  kHighWater,            // grew in steps to what was needed once, and stays there
  kOneTime,              // allocated once
  kLiveAtKill,           // what a killed process held
  kLive,                 // not enough data to tell
};

// "leak", "growth-per-request", ...
const char* VerdictName(Verdict verdict);

// Memory that grows until something ends it.
inline bool GrowsWithoutBound(Verdict verdict) {
  return verdict == Verdict::kLeak || verdict == Verdict::kGrowthPerRequest;
}

// All of them are explained in VERDICTS.md.
struct VerdictThresholds {
  // Enough data: this many requests, or this much time of which no requests are known.
  uint64_t least_requests = 20;
  double least_seconds = 20;
  size_t least_points = 8;
  // Growth that goes on.
  double most_p = 0.01;
  size_t least_rises = 4;
  double most_largest_rise = 0.5;
  double least_last_rise = 0.75;
  double most_above_line = 0.25;  // and slack_above_line / sqrt(rises) on top
  double slack_above_line = 0.5;
  double most_below_line = 0.45;
  double least_late_by_early = 0.35;
  // A curve that bends all the way has no corner at which a warm-up ends: where growth still slows
  // down behind the cut, the whole curve counts. Needs this many rises to be more than chance.
  double most_late_by_early_of_bend = 0.7;
  size_t least_rises_of_bend = 20;
  // Old blocks stay, or are gone: the share that is live of the first 40 % of what was allocated,
  // by that of the next 40 %.
  double least_stays = 0.6;
  double most_stays_of_cache = 0.35;
  // Of what the library folded away, the curves know nothing: a cache's live blocks alone look like
  // growth. It turns over when the oldest live block is so young that it would be by chance alone
  // this often, if all had stayed, and those freed reached this share of its age in the mean.
  double most_chance_of_young = 0.01;
  double least_age_at_death = 0.1;
  // A few blocks (at most that many) that are allocated again and again, each larger: of those that
  // died young no curve is known. Their mean size is then about half of the last one's, which is
  // the largest that there ever was, alone or beside its forerunner.
  uint64_t most_blocks_of_container = 8;
  uint64_t least_replaced = 20;
  double least_mean_by_last = 0.4;
  double most_mean_by_last = 0.6;
  double peak_tolerance = 0.03;
  double least_progress_of_last = 0.9;
  // A cap: this share of the curve lies behind the moment when it was reached.
  double least_capped = 0.2;
  // Still in use: the last allocation lies in the last quarter.
  double least_last_seen = 0.75;
  // One burst: all live blocks were allocated within this share of the time.
  double most_burst = 0.05;
  // Unloading: what falls by less than this share had nothing to do with it; of what fell, more
  // than `least_retained` has to be left.
  double least_unloaded = 0.2;
  double least_retained = 0.1;
  uint64_t least_retained_bytes = 4096;
};

struct GrowthRate {
  double value = 0;  // bytes per request, token or hour
  double low = 0;    // 95 % confidence interval; equal to `value` where it is not known
  double high = 0;
};

struct Diagnosis {
  Verdict verdict = Verdict::kLive;
  double confidence = 0;              // 0 to 1: how much speaks for the verdict against all others
  std::vector<std::string> evidence;  // one sentence each, the numbers that led to the verdict
  std::string advice;                 // what to do; empty: nothing
  std::string site;                   // what it is, where the stack is known: "prompt cache of ..."
  double growth_bytes = 0;            // since the end of the warm-up
  double warm_seconds = 0;            // when that was, since the session's start
  std::optional<GrowthRate> per_request;
  std::optional<GrowthRate> per_token;
  std::optional<GrowthRate> per_hour;
};

// kFigures: all but evidence, advice and site, at a fraction of the cost.
enum class Detail { kFigures, kAll };

// Says who allocated: the functions as they are named, innermost first, without an allocator's and
// a runtime's own. Called once at most.
using NamesOfStack = absl::FunctionRef<StackNames()>;

// `unloads` are those of the session.
Diagnosis Diagnose(const GroupHistory& history, NamesOfStack names,
                   const std::vector<Unload>& unloads, Detail detail = Detail::kAll,
                   const VerdictThresholds& thresholds = {});

// Whether so many requests, or so long a time, are enough to call anything a leak that was not left
// over by an unload.
bool EnoughToJudge(uint64_t requests, double seconds, const VerdictThresholds& thresholds = {});

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_DIAGNOSE_VERDICT_H_
