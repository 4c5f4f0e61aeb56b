#include "analyzer/diagnose/verdict.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

constexpr double kMinRateSeconds = 60;  // no rate by the hour from less

std::string Percent(double share) { return absl::StrFormat("%.0f %%", 100 * share); }
std::string Times(uint64_t count, absl::string_view one, absl::string_view many) {
  return absl::StrCat(FormatCount(count), " ", count == 1 ? one : many);
}
std::string Bytes(double bytes) { return FormatBytes(bytes); }
double Clamp01(double value) { return std::clamp(value, 0.0, 1.0); }

// Whether old blocks stay, of the generations after the warm-up.
struct Stay {
  bool known = false;
  double early = 0;         // share of the first 40 % of what was allocated that is live
  double middle = 0;        // of the next 40 %
  double ratio = 0;         // early by middle
  double recent_share = 0;  // of the live bytes: allocated in the second half of the time
};

Stay LookAtGenerations(const GroupHistory& history, double from_seconds) {
  Stay stay;
  double born = 0;
  std::vector<GroupHistory::Generation> rest;
  for (const GroupHistory::Generation& generation : history.generations) {
    if (generation.end <= from_seconds) continue;
    rest.push_back(generation);
    born += static_cast<double>(generation.born_bytes);
  }
  const double half = (history.first_seen + history.active_end) / 2;
  double live = 0, recent = 0;
  for (const GroupHistory::Generation& generation : history.generations) {
    live += static_cast<double>(generation.live_bytes);
    if (generation.end > half) recent += static_cast<double>(generation.live_bytes);
  }
  if (live > 0) stay.recent_share = recent / live;
  if (born <= 0) return stay;
  double sum = 0, early_born = 0, early_live = 0, middle_born = 0, middle_live = 0;
  size_t early = 0, middle = 0;
  for (const GroupHistory::Generation& generation : rest) {
    const double bytes = static_cast<double>(generation.born_bytes);
    if (bytes == 0) continue;
    // By the middle of what the generation holds.
    const double at = (sum + bytes / 2) / born;
    sum += bytes;
    if (at < 0.4) {
      ++early;
      early_born += bytes;
      early_live += static_cast<double>(generation.live_bytes);
    } else if (at < 0.8) {
      ++middle;
      middle_born += bytes;
      middle_live += static_cast<double>(generation.live_bytes);
    }
  }
  if (early < 1 || middle < 1) return stay;
  stay.early = early_live / early_born;
  stay.middle = middle_live / middle_born;
  stay.known = true;
  // Without a live one in the middle: both gone, as is everything that is not very young; or only
  // old ones stay, of which nothing is gone either.
  stay.ratio = stay.middle > 0 ? stay.early / stay.middle : stay.early > 0 ? 1 : 0;
  return stay;
}

// The age below which half of the recorded blocks were that were freed, and the greatest, in
// seconds.
struct Ages {
  uint64_t deaths = 0;
  double median = 0;
  double most = 0;
};

Ages LookAtDeaths(const DeathAges::Counts& counts) {
  Ages ages;
  for (const uint32_t count : counts) ages.deaths += count;
  uint64_t sum = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    const double limit = static_cast<double>(DeathAges::LimitNs(i)) / 1e9;
    if (2 * sum < ages.deaths) ages.median = limit;
    ages.most = limit;
    sum += counts[i];
  }
  return ages;
}

class Diagnoser {
 public:
  Diagnoser(const GroupHistory& history, NamesOfStack names, const std::vector<Unload>& unloads,
            const VerdictThresholds& limits, Detail detail)
      : history_(history),
        stats_(history.stats),
        unloads_(unloads),
        limits_(limits),
        detail_(detail),
        names_(names) {}

  Diagnosis Run() {
    Measure();
    Decide();
    if (detail_ == Detail::kAll) {
      Describe();
      Advise();
    }
    return std::move(result_);
  }

 private:
  // Most stacks are judged without their names.
  const Site* SiteOf() {
    if (!site_) site_ = FindSite(Names());
    return *site_;
  }
  const std::string& NamedLike() {
    if (!named_) named_ = NamedLikeACache(Names());
    return *named_;
  }
  const StackNames& Names() {
    if (!stack_) stack_ = names_();
    return *stack_;
  }

  bool Killed() const { return history_.end == ProcessEnd::kKilled; }

  // ---- The numbers

  void Measure() {
    over_time_ = AnalyzeGrowth(history_.over_time);
    over_requests_ = AnalyzeGrowth(history_.over_requests);
    requests_ = history_.over_requests.size() == 0
                    ? 0
                    : static_cast<uint64_t>(history_.over_requests.x.back());
    seconds_ = std::max(0.0, history_.process_end - history_.process_start);
    // Growth by requests, unless most of it happened before the first or after the last of them.
    by_requests_ = requests_ >= limits_.least_requests &&
                   over_requests_.points >= limits_.least_points &&
                   over_requests_.grown >= 0.5 * over_time_.grown;
    growth_ = by_requests_ ? over_requests_ : over_time_;
    stay_ = LookAtGenerations(history_, growth_.points < 2 ? 0 : growth_.from_seconds);
    ages_ = LookAtDeaths(history_.death_ages);
    if (EnoughData()) {
      result_.growth_bytes = growth_.grown;
      result_.warm_seconds = growth_.points < 2 ? history_.process_start : growth_.from_seconds;
    } else {
      result_.warm_seconds = history_.process_start + seconds_ / 4;
      result_.growth_bytes =
          over_time_.points < 2 ? 0 : over_time_.to_bytes - LevelAt(result_.warm_seconds);
    }
    // Estimates: what is within the chance of the draw is no growth.
    doubt_ = 2 * std::sqrt(stats_.variances.live_bytes);
    SetRates();
  }

  void SetRates() {
    const auto rate = [](const Slope& slope) {
      return GrowthRate{slope.slope, slope.low, slope.high};
    };
    if (requests_ > 1 && over_requests_.points >= 2)
      result_.per_request = rate(over_requests_.rate);
    if (!history_.tokens.empty() && over_requests_.points >= 2) {
      LiveCurve by_tokens = history_.over_requests;
      by_tokens.x = history_.tokens;
      result_.per_token = rate(AnalyzeGrowth(by_tokens).rate);
    }
    const double seconds = over_time_.to - over_time_.from;
    if (seconds_ >= kMinRateSeconds && over_time_.points >= 2 && seconds > 0) {
      const double hours = seconds / 3600;
      result_.per_hour = GrowthRate{over_time_.grown / hours, over_time_.rate.low * 3600,
                                    over_time_.rate.high * 3600};
    }
  }

  bool EnoughData() const { return EnoughToJudge(requests_, seconds_, limits_); }

  // How much of the time on the axis since the first allocation.
  double Part(double seconds) const {
    const double width = history_.active_end - history_.first_seen;
    return width > 0 ? Clamp01((seconds - history_.first_seen) / width) : 1;
  }

  bool Growing() const {
    const double slack = limits_.slack_above_line /
                         std::sqrt(std::max<double>(1, static_cast<double>(growth_.rises)));
    // Of a program's first seconds, the time alone tells nothing.
    return (by_requests_ || seconds_ >= limits_.least_seconds) &&
           growth_.points >= limits_.least_points && growth_.grown > doubt_ &&
           growth_.rises >= limits_.least_rises && growth_.trend.p < limits_.most_p &&
           growth_.trend.s > 0 && growth_.slope.low > 0 &&
           growth_.largest_rise <= limits_.most_largest_rise &&
           growth_.last_rise >= limits_.least_last_rise &&
           growth_.above_line <= limits_.most_above_line + slack &&
           growth_.below_line <= limits_.most_below_line;
  }

  bool SlowingDown() const {
    return growth_.late_by_early < limits_.least_late_by_early || BendsAllTheWay();
  }

  bool BendsAllTheWay() const {
    return growth_.warm_up_cut && growth_.rises >= limits_.least_rises_of_bend &&
           growth_.late_by_early < limits_.most_late_by_early_of_bend &&
           growth_.whole_late_by_early < limits_.least_late_by_early;
  }

  bool StillAllocates() const { return Part(history_.last_seen) >= limits_.least_last_seen; }

  bool OldBlocksGone() const {
    if (stats_.frees < std::max<uint64_t>(stats_.live_blocks / 10, 2)) return false;
    if (stay_.known && stay_.ratio <= limits_.most_stays_of_cache) return true;
    return YoungByChance() <= limits_.most_chance_of_young;
  }

  // How often the oldest live block would be as young as it is, if all blocks stayed.
  double YoungByChance() const {
    return std::pow(1 - Progress(history_.oldest_live), static_cast<double>(stats_.live_blocks));
  }

  // The share of the requests, or of the time, since the first allocation.
  double Progress(double seconds) const {
    if (requests_ < limits_.least_requests) return Part(seconds);
    const double first = RequestsAt(history_.first_seen), last = RequestsAt(history_.last_seen);
    return last > first ? Clamp01((RequestsAt(seconds) - first) / (last - first)) : Part(seconds);
  }

  // How many had been answered, to the next point of the curve.
  double RequestsAt(double seconds) const {
    const LiveCurve& curve = history_.over_requests;
    if (curve.size() == 0) return 0;
    const auto it = std::lower_bound(curve.seconds.begin(), curve.seconds.end(), seconds);
    if (it == curve.seconds.end()) return curve.x.back();
    return it == curve.seconds.begin() ? 0
                                       : curve.x[static_cast<size_t>(it - curve.seconds.begin())];
  }

  // Blocks live for a while and are gone then, though the curves don't show it.
  bool TurnsOverUnseen() const {
    if (stats_.folded_pairs == 0 || stats_.live_blocks == 0 || !StillAllocates()) return false;
    const double young =
        std::pow(1 - Progress(history_.oldest_live), static_cast<double>(stats_.live_blocks));
    if (young > limits_.most_chance_of_young) return false;
    const double died = static_cast<double>(stats_.folded_lifetime_ns) /
                        static_cast<double>(stats_.folded_pairs) / 1e9;
    return std::max(died, ages_.median) >=
           limits_.least_age_at_death * (history_.last_seen - history_.oldest_live);
  }

  // A container that is copied into a larger one with each request, unseen by the curves.
  bool GrowsByReplacement() const {
    const uint64_t blocks = stats_.live_blocks;
    if (blocks == 0 || blocks > limits_.most_blocks_of_container) return false;
    if (stats_.folded_pairs < limits_.least_replaced || 2 * stats_.folded_pairs < stats_.frees ||
        Part(history_.newest_live) < limits_.least_progress_of_last) {
      return false;
    }
    const double last = static_cast<double>(stats_.largest);
    const double freed =
        static_cast<double>(stats_.bytes - std::min(stats_.live_bytes, stats_.bytes));
    const double mean = freed / static_cast<double>(stats_.frees);
    if (mean < limits_.least_mean_by_last * last || mean > limits_.most_mean_by_last * last) {
      return false;
    }
    // Sizes that come and go have had a larger one before, nearly always.
    const double peak = static_cast<double>(std::max(stats_.peak_bytes, stats_.live_bytes)) /
                        static_cast<double>(blocks) / last;
    return peak <= 1 + limits_.peak_tolerance || std::abs(peak - 2) <= limits_.peak_tolerance;
  }

  void DecideGrowsByReplacement() {
    const double live = static_cast<double>(stats_.live_bytes);
    const double requests = RequestsAt(history_.last_seen) - RequestsAt(history_.first_seen);
    result_.growth_bytes = live;
    result_.per_request = result_.per_token = result_.per_hour = std::nullopt;
    if (requests > 0)
      result_.per_request = GrowthRate{live / requests, live / requests, live / requests};
    const double seconds = history_.last_seen - history_.first_seen;
    if (seconds >= kMinRateSeconds) {
      const double rate = live / seconds * 3600;
      result_.per_hour = GrowthRate{rate, rate, rate};
    }
    Set(Verdict::kGrowthPerRequest, 0.7);
    Say([&] {
      return absl::StrCat("allocated again ", Times(stats_.frees, "time", "times"), ", up to ",
                          Bytes(live),
                          "; those before were half as large in the mean, and none was larger: a "
                          "container that is never emptied");
    });
  }

  // ---- The verdict

  void Set(Verdict verdict, double confidence) {
    result_.verdict = verdict;
    result_.confidence = std::round(std::clamp(confidence, 0.0, 0.99) * 100) / 100;
  }

  void Decide() {
    if (!history_.counts_as_memory || history_.end == ProcessEnd::kExec) {
      Set(Killed() ? Verdict::kLiveAtKill : Verdict::kLive, 1);
      Say([&] {
        return history_.counts_as_memory
                   ? "gone since: the process went on in another program"
                   : "not counted: a file's pages can be dropped and read again, "
                     "a reservation has none";
      });
      return;
    }
    if (DecideRetained()) return;
    if (!EnoughData()) {
      Set(Killed() ? Verdict::kLiveAtKill : Verdict::kLive, 0.3);
      Say([&] {
        return requests_ > 0
                   ? absl::StrCat("too short to tell: ", Times(requests_, "request", "requests"),
                                  " in ", FormatSeconds(seconds_))
                   : absl::StrCat("too short to tell: ", FormatSeconds(seconds_),
                                  ", no requests marked");
      });
      return;
    }
    if (GrowsByReplacement()) {
      DecideGrowsByReplacement();
    } else if (TurnsOverUnseen()) {
      // What the curves show is not how it was.
      result_.growth_bytes = 0;
      result_.per_request = result_.per_token = result_.per_hour = std::nullopt;
      SayTurnover();
      Set(Verdict::kCache, 0.85);
    } else if (Growing()) {
      DecideGrowing();
    } else {
      DecideNotGrowing();
    }
  }

  double GrowthConfidence() const {
    const double rises = static_cast<double>(growth_.rises);
    double confidence = 0.45 + 0.2 * Clamp01((rises - 3) / 9) +
                        0.15 * Clamp01((0.3 - growth_.above_line) / 0.2) +
                        0.15 * (stay_.known ? Clamp01((stay_.ratio - 0.5) / 0.5) : 0.3) +
                        0.05 * Clamp01(-std::log10(std::max(growth_.trend.p, 1e-9)) / 6);
    if (!by_requests_ && seconds_ < 120) confidence *= 0.8;
    return confidence;
  }

  void DecideGrowing() {
    const double confidence = GrowthConfidence();
    SayGrowth();
    const Site* const site = SiteOf();
    if (site != nullptr && site->kind == SiteKind::kCache) {
      Set(Verdict::kCache, 0.85);
      Say("a cache that is known: it has not reached its cap yet");
      return;
    }
    if (site != nullptr && site->kind == SiteKind::kGoHeap) {
      Set(Verdict::kGrowthPerRequest, 0.5);
      Say("what Go's heap holds is known to its collector alone");
      return;
    }
    if (SlowingDown()) {
      Set(Verdict::kCache, 0.5 + (NamedLike().empty() ? 0 : 0.2));
      const double share = std::min(growth_.late_by_early, growth_.whole_late_by_early);
      Say([&] {
        return absl::StrCat("growth slows down: the last third brought ", Percent(share),
                            " of the first: something fills up");
      });
      return;
    }
    const bool stays = !stay_.known || stay_.ratio >= limits_.least_stays;
    SayStay();
    if (stats_.live_blocks < growth_.rises &&
        stats_.live_blocks <= limits_.most_blocks_of_container) {
      Set(Verdict::kGrowthPerRequest, confidence);
      Say([&] {
        return absl::StrCat(
            "it is ", Times(stats_.live_blocks, "block", "blocks"), " that ",
            stats_.live_blocks == 1 ? "is" : "are",
            " allocated again, larger each time: a container that is never emptied");
      });
      return;
    }
    if (!stays) {
      Set(Verdict::kGrowthPerRequest, confidence * 0.8);
      Say("old blocks go, and still there are more: something that turns over and grows");
      return;
    }
    if (!NamedLike().empty()) {
      Set(Verdict::kGrowthPerRequest, confidence * 0.8);
      Say([&] {
        return absl::StrCat("it may be a cache that has not reached its cap: ", NamedLike(),
                            " is named like one");
      });
      return;
    }
    Set(Verdict::kLeak, confidence);
  }

  void DecideNotGrowing() {
    if (OldBlocksGone() && StillAllocates()) {
      SayTurnover();
      SayCap();
      const double turns = static_cast<double>(stats_.frees) /
                           static_cast<double>(std::max<uint64_t>(stats_.live_blocks, 1));
      Set(Verdict::kCache,
          0.6 + 0.2 * Clamp01((turns - 1) / 4) + 0.15 * Clamp01(1 - growth_.reached_cap));
      return;
    }
    if (growth_.collapses >= 2) {
      Set(Verdict::kCache, 0.6 + 0.1 * std::min<double>(3, static_cast<double>(growth_.collapses)));
      Say([&] {
        return absl::StrCat("was emptied ", Times(growth_.collapses, "time", "times"),
                            " and filled again, to ", Bytes(growth_.peak_bytes), " at most");
      });
      return;
    }
    const double burst = Part(history_.newest_live) - Part(history_.oldest_live);
    if (stats_.allocations <= 1 || stats_.frees == 0 ? burst <= limits_.most_burst : false) {
      SetQuiet(Verdict::kOneTime, StillAllocates() && Part(history_.first_seen) < 0.5 ? 0.7 : 0.95);
      Say([&] {
        return stats_.allocations == 1
                   ? std::string("allocated once")
                   : absl::StrCat("allocated at once, within ",
                                  FormatSeconds(history_.newest_live - history_.oldest_live),
                                  "; nothing since");
      });
      SayUnloadSurvived();
      return;
    }
    const double capped = 1 - growth_.reached_cap;
    if (capped >= limits_.least_capped) {
      // What was freed at once was no part of it.
      const bool replaced =
          stats_.frees > stats_.folded_pairs ||
          (stats_.frees > 0 && stats_.live_blocks <= limits_.most_blocks_of_container);
      const double mean = static_cast<double>(stats_.live_bytes) /
                          static_cast<double>(std::max<uint64_t>(stats_.live_blocks, 1));
      SayCap();
      if (replaced || mean >= 4096 || (SiteOf() != nullptr && SiteOf()->kind == SiteKind::kPool)) {
        SetQuiet(Verdict::kHighWater, 0.5 + 0.45 * Clamp01((capped - 0.2) / 0.4));
        if (stats_.live_blocks <= limits_.most_blocks_of_container && replaced) {
          Say([&] {
            return absl::StrCat("grew in ", Times(stats_.allocations, "step", "steps"), " to ",
                                Times(stats_.live_blocks, "block", "blocks"), " of ",
                                Bytes(static_cast<double>(stats_.live_bytes)), ", the last at ",
                                FormatSeconds(history_.last_seen));
          });
        }
      } else {
        SetQuiet(Verdict::kOneTime, 0.4 + 0.45 * Clamp01((capped - 0.2) / 0.4));
        Say("built up block by block, complete since then: a table that is filled when it is used");
      }
      SayUnloadSurvived();
      return;
    }
    // It still grew late, but not often enough, or not evenly enough.
    SayGrowth();
    Set(Killed() ? Verdict::kLiveAtKill : Verdict::kLive, 0.3);
    Say([&] {
      return growth_.rises < limits_.least_rises
                 ? absl::StrCat("grew ", Times(growth_.rises, "time", "times"),
                                ": too seldom to tell from a table that is being built")
                 : std::string("neither steady growth nor a cap: no rule decides");
    });
  }

  // A verdict on something that stays as it is: of a killed process, more is not to be said.
  void SetQuiet(Verdict verdict, double confidence) {
    if (Killed() && verdict == Verdict::kOneTime) verdict = Verdict::kLiveAtKill;
    Set(verdict, confidence);
  }

  // ---- Unloading

  double LevelAt(double seconds) const {
    const LiveCurve& curve = history_.over_time;
    const auto it = std::upper_bound(curve.seconds.begin(), curve.seconds.end(), seconds);
    if (it == curve.seconds.begin()) return 0;
    return curve.bytes[static_cast<size_t>(it - curve.seconds.begin()) - 1];
  }

  // Live bytes of the generations that had begun by then.
  double LiveFromBefore(double seconds) const {
    double begin = history_.process_start, live = 0;
    for (const GroupHistory::Generation& generation : history_.generations) {
      if (begin < seconds) live += static_cast<double>(generation.live_bytes);
      begin = generation.end;
    }
    return live;
  }

  // What is left of what belongs to a model when the model has gone.
  bool DecideRetained() {
    if (Killed()) return false;
    std::vector<double> left;
    double base = 0, fell = 0, left_share = 0, last_unload = 0;
    bool only_while_loading = true;
    for (const Unload& unload : unloads_) {
      if (history_.process_start > unload.loaded || history_.process_end < unload.settled) continue;
      const double loaded = LevelAt(unload.loaded), before = LevelAt(unload.unload);
      const double after = LevelAt(unload.settled);
      if (before <= 0) continue;
      if (left.empty()) base = loaded;
      left.push_back(after);
      last_unload = unload.unload;
      fell = (before - after) / before;
      left_share = after / before;
      only_while_loading = only_while_loading && unload.load_alone &&
                           LevelAt(unload.load_end) - loaded >= 0.9 * (before - loaded);
    }
    if (left.empty()) return false;
    // What came after the unload was not left by it: a cache that goes on turning over.
    const double kept = std::min(left.back() - base, LiveFromBefore(last_unload));
    if (kept < static_cast<double>(limits_.least_retained_bytes)) return false;
    // Loads that leave nothing more behind use again what is there.
    const double first = left.front() - base;
    const bool accumulates = left.size() >= 2 && first > 0 &&
                             kept >= first * (1 + 0.5 * static_cast<double>(left.size() - 1));
    const bool partly = fell >= limits_.least_unloaded && left_share >= limits_.least_retained;
    const bool loading = only_while_loading && (left.size() == 1 || accumulates);
    if (!partly && !loading) return false;
    Set(Verdict::kRetainedAfterUnload,
        0.5 + (partly ? 0.1 : 0) + (accumulates ? 0.3 : 0) + (loading ? 0.15 : 0));
    Say([&] {
      return absl::StrCat(Bytes(kept), " of it were left after ",
                          left.size() == 1 ? std::string("the unload")
                                           : absl::StrCat("the last of ", left.size(), " unloads"),
                          // What died young is in no curve.
                          fell <= 0 && stats_.folded_pairs > 0
                              ? std::string()
                              : absl::StrCat(", which freed ", Percent(std::max(0.0, fell))));
    });
    if (loading) Say("it was allocated while the model was loaded, and not by requests");
    if (accumulates) {
      Say([&] {
        return absl::StrCat("each load left more behind: ", Bytes(first), " after the first, ",
                            Bytes(kept), " after the last");
      });
    }
    return true;
  }

  void SayUnloadSurvived() {
    if (Killed()) return;
    for (const Unload& unload : unloads_) {
      if (history_.first_seen >= unload.loaded && history_.last_seen <= unload.unload &&
          history_.process_end > unload.settled) {
        Say("allocated since the load, and still there after the unload");
        return;
      }
    }
  }

  // ---- The evidence

  // Words are made where they are wanted.
  template <typename Sentence>
  void Say(const Sentence& sentence) {
    if (detail_ == Detail::kAll) said_.push_back(std::string(sentence()));
  }
  void Say(const char* sentence) {
    if (detail_ == Detail::kAll) said_.push_back(sentence);
  }

  std::string Axis(double amount) const {
    return by_requests_ ? Times(static_cast<uint64_t>(std::llround(amount)), "request", "requests")
                        : FormatSeconds(amount);
  }

  void SayGrowth() {
    if (growth_.points < 2 || detail_ != Detail::kAll) return;
    std::string text;
    if (growth_.warm_up_cut) {
      const double from = by_requests_ ? growth_.from : growth_.from_seconds;
      absl::StrAppend(&text, "after a warm-up ",
                      by_requests_ ? absl::StrCat("of ", Axis(from))
                                   : absl::StrCat("until ", FormatSeconds(from)),
                      ", ");
    }
    absl::StrAppend(&text, growth_.grown < 0 ? "shrank by " : "grew by ",
                    Bytes(std::abs(growth_.grown)), " over ", Axis(growth_.to - growth_.from));
    const double unit = by_requests_ ? 1 : 3600;
    if (by_requests_ || seconds_ >= kMinRateSeconds) {
      absl::StrAppend(&text, ": ", Bytes(growth_.rate.slope * unit),
                      by_requests_ ? " per request" : " per hour",
                      " (95 %: ", Bytes(growth_.rate.low * unit), " to ",
                      Bytes(growth_.rate.high * unit), ")");
    }
    Say([&] { return text; });
    if (growth_.rises > 0 && growth_.grown > 0) {
      Say([&] {
        return absl::StrFormat(
            "in %s, the greatest %s of it, the last at %s of the way; trend p = %.2g",
            Times(growth_.rises, "step", "steps"), Percent(growth_.largest_rise),
            Percent(growth_.last_rise), growth_.trend.p);
      });
    }
  }

  void SayStay() {
    if (!stay_.known) return;
    Say([&] {
      return absl::StrCat("old blocks stay: ", Percent(stay_.early),
                          " of the first that lived for a while are live, ", Percent(stay_.middle),
                          " of later ones");
    });
  }

  void SayTurnover() {
    if (detail_ != Detail::kAll) return;
    std::string text = absl::StrCat(
        "turns over: ", FormatCount(stats_.frees), " freed, the oldest live block is ",
        FormatSeconds(std::max(0.0, history_.active_end - history_.oldest_live)), " old, of ",
        FormatSeconds(std::max(0.0, history_.active_end - history_.first_seen)));
    if (ages_.deaths > 0) {
      absl::StrAppend(&text, "; half of those freed were younger than ",
                      FormatSeconds(ages_.median));
    } else if (stats_.folded_pairs > 0) {
      absl::StrAppend(&text, "; those freed lived ",
                      FormatSeconds(static_cast<double>(stats_.folded_lifetime_ns) /
                                    static_cast<double>(stats_.folded_pairs) / 1e9),
                      " in the mean");
    }
    Say([&] { return text; });
  }

  void SayCap() {
    if (growth_.points < 2 || growth_.reached_cap > 1 - limits_.least_capped) return;
    Say([&] {
      return absl::StrCat("never more than ", Bytes(growth_.peak_bytes),
                          ", which it reached after ", Percent(growth_.reached_cap), " of the way");
    });
  }

  void Describe() {
    std::vector<std::string>& evidence = result_.evidence;
    const double smallest = stats_.smallest == kNever ? 0 : static_cast<double>(stats_.smallest);
    std::string sizes = Bytes(smallest);
    if (smallest != static_cast<double>(stats_.largest)) {
      sizes = absl::StrCat("of ", sizes, " to ", Bytes(static_cast<double>(stats_.largest)));
    } else if (stats_.live_blocks > 1) {
      sizes += " each";
    }
    evidence.push_back(absl::StrCat(Times(stats_.live_blocks, "block", "blocks"), " live, ", sizes,
                                    ", allocated from ", FormatSeconds(history_.oldest_live),
                                    " to ", FormatSeconds(history_.newest_live)));
    evidence.push_back(absl::StrCat(FormatCount(stats_.allocations), " allocated, ",
                                    stats_.frees == 0 ? "none" : FormatCount(stats_.frees),
                                    " freed, the last allocation at ",
                                    FormatSeconds(history_.last_seen)));
    for (std::string& sentence : said_) evidence.push_back(std::move(sentence));
    if (const Site* const site = SiteOf(); site != nullptr) {
      result_.site = std::string(site->name);
      evidence.push_back(absl::StrCat("known: ", site->name, " (", site->source, ")"));
    }
  }

  void Advise() {
    if (const Site* const site = SiteOf(); site != nullptr) {
      result_.advice = absl::StrCat(site->name, ": ", site->advice);
      return;
    }
    switch (result_.verdict) {
      case Verdict::kLeak:
        result_.advice =
            "look for the free that is missing where the marked function's caller is "
            "done with it; `diff` with a fixed build shows that it is gone";
        break;
      case Verdict::kGrowthPerRequest:
        result_.advice =
            "look for what removes entries from the marked function's container; a "
            "longer session tells whether there is a cap";
        break;
      case Verdict::kRetainedAfterUnload:
        result_.advice =
            "look for what should free this when the model goes; restarting the "
            "process gives it back";
        break;
      case Verdict::kCache:
      case Verdict::kHighWater:
        result_.advice =
            "no leak; if it is too much, look for the limit of the marked function's "
            "container";
        break;
      case Verdict::kOneTime:
      case Verdict::kLiveAtKill:
      case Verdict::kLive:
        break;
    }
  }

  const GroupHistory& history_;
  const StackStats& stats_;
  const std::vector<Unload>& unloads_;
  const VerdictThresholds& limits_;
  const Detail detail_;
  const NamesOfStack names_;
  std::optional<StackNames> stack_;
  std::optional<const Site*> site_;
  std::optional<std::string> named_;

  Growth over_time_, over_requests_;
  Growth growth_;  // of these, the one that counts
  bool by_requests_ = false;
  uint64_t requests_ = 0;
  double seconds_ = 0;
  double doubt_ = 0;
  Stay stay_;
  Ages ages_;
  std::vector<std::string> said_;
  Diagnosis result_;
};

}  // namespace

const char* VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kLeak:
      return "leak";
    case Verdict::kGrowthPerRequest:
      return "growth-per-request";
    case Verdict::kRetainedAfterUnload:
      return "retained-after-unload";
    case Verdict::kCache:
      return "cache";
    case Verdict::kHighWater:
      return "high-water";
    case Verdict::kOneTime:
      return "one-time";
    case Verdict::kLiveAtKill:
      return "live-at-kill";
    case Verdict::kLive:
      break;
  }
  return "live";
}

Diagnosis Diagnose(const GroupHistory& history, NamesOfStack names,
                   const std::vector<Unload>& unloads, Detail detail,
                   const VerdictThresholds& thresholds) {
  return Diagnoser(history, names, unloads, thresholds, detail).Run();
}

bool EnoughToJudge(uint64_t requests, double seconds, const VerdictThresholds& thresholds) {
  return requests >= thresholds.least_requests || seconds >= thresholds.least_seconds;
}

}  // namespace ollamatrace
