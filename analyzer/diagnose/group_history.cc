#include "analyzer/diagnose/group_history.h"

#include <algorithm>
#include <cstddef>

namespace ollamatrace {
namespace {

double SecondsOf(const SessionHistory& session, uint64_t time_ns) {
  return time_ns >= session.start_ns ? static_cast<double>(time_ns - session.start_ns) / 1e9
                                     : -static_cast<double>(session.start_ns - time_ns) / 1e9;
}

void AddStats(const StackStats& from, StackStats& to) {
  to.live_bytes += from.live_bytes;
  to.live_blocks += from.live_blocks;
  to.allocations += from.allocations;
  to.frees += from.frees;
  to.bytes += from.bytes;
  to.peak_bytes += from.peak_bytes;
  to.first_ns = std::min(to.first_ns, from.first_ns);
  to.last_ns = std::max(to.last_ns, from.last_ns);
  to.folded_pairs += from.folded_pairs;
  to.folded_lifetime_ns += from.folded_lifetime_ns;
  to.smallest = std::min(to.smallest, from.smallest);
  to.largest = std::max(to.largest, from.largest);
  to.oldest_ns = std::min(to.oldest_ns, from.oldest_ns);
  to.newest_ns = std::max(to.newest_ns, from.newest_ns);
  to.variances.Add(from.variances);
  to.live_drawn += from.live_drawn;
}

LiveCurve OverRequests(const SessionHistory& session, const ProcessHistory& process,
                       const GroupSeries::Sums& sums) {
  LiveCurve curve;
  int64_t level = 0;
  for (size_t i = 0; i < sums.requests.size(); ++i) {
    level += sums.requests[i];
    curve.x.push_back(static_cast<double>(process.series.RequestsAt(i)));
    curve.seconds.push_back(SecondsOf(session, process.series.RequestSlotEnd(i)));
    curve.bytes.push_back(static_cast<double>(level));
  }
  return curve;
}

// When the process last allocated or answered. The session's marks are in order.
uint64_t ActiveEnd(const SessionHistory& session, const ProcessHistory& process) {
  const uint64_t end = std::min(process.end_ns, session.until_ns);
  for (auto mark = session.marks.rbegin(); mark != session.marks.rend(); ++mark) {
    if (mark->name == kRequestMark && mark->time_ns <= end) {
      return std::max(process.last_allocation_ns, mark->time_ns);
    }
  }
  return process.last_allocation_ns;
}

// Tokens answered by the end of each slot; nothing when no mark says any.
std::vector<double> TokensBySlot(const SessionHistory& session, const ProcessHistory& process) {
  std::vector<double> tokens;
  const uint64_t from = std::max(process.complete_from_ns(), session.since_ns);
  double sum = 0;
  size_t slot = 0;
  for (const Mark& mark : session.marks) {
    if (mark.name != kRequestMark || mark.time_ns < from) continue;
    while (slot < process.series.request_slots() &&
           mark.time_ns > process.series.RequestSlotEnd(slot)) {
      tokens.push_back(sum);
      ++slot;
    }
    if (slot == process.series.request_slots()) break;
    sum += static_cast<double>(mark.tokens);
  }
  while (tokens.size() < process.series.request_slots()) tokens.push_back(sum);
  if (sum == 0) tokens.clear();
  return tokens;
}

}  // namespace

LiveCurve CurveOverTime(const SessionHistory& session, const ProcessHistory& process,
                        const GroupSeries::Sums& sums) {
  LiveCurve curve;
  int64_t level = 0;
  const double last = SecondsOf(session, process.end_ns);
  for (size_t i = 0; i < sums.time.size(); ++i) {
    level += sums.time[i];
    const double end = SecondsOf(session, process.series.TimeSlotEnd(i));
    curve.x.push_back(i + 1 == sums.time.size() ? std::min(end, std::max(last, 0.0)) : end);
    curve.seconds.push_back(curve.x.back());
    curve.bytes.push_back(static_cast<double>(level));
  }
  return curve;
}

GroupHistory MakeGroupHistory(const SessionHistory& session, const ProcessHistory& process,
                              absl::Span<const StackStats* const> stacks) {
  GroupHistory history;
  GroupSeries::Sums sums;
  for (const StackStats* stack : stacks) {
    process.series.AddTo(stack->row, sums);
    // Of a single survivor no generation is kept: it is where it was born.
    if (stack->live_blocks == 1 && !sums.live.empty()) {
      sums.live[process.series.GenerationOfTime(stack->oldest_ns)] += stack->live_bytes;
    }
    AddStats(*stack, history.stats);
    const DeathAges::Counts ages = process.death_ages.Of(stack->row);
    for (size_t i = 0; i < ages.size(); ++i) history.death_ages[i] += ages[i];
  }
  history.over_time = CurveOverTime(session, process, sums);
  history.over_requests = OverRequests(session, process, sums);
  if (history.over_requests.size() > 0) history.tokens = TokensBySlot(session, process);
  for (size_t i = 0; i < sums.born.size(); ++i) {
    history.generations.push_back(
        {SecondsOf(session, process.series.GenerationBegin(i + 1)), sums.born[i], sums.live[i]});
  }
  history.first_seen = SecondsOf(session, history.stats.first_ns);
  history.last_seen = SecondsOf(session, history.stats.last_ns);
  history.oldest_live = SecondsOf(session, history.stats.oldest_ns);
  history.newest_live = SecondsOf(session, history.stats.newest_ns);
  history.process_start =
      SecondsOf(session, std::max(process.complete_from_ns(), session.since_ns));
  history.process_end = SecondsOf(session, std::min(process.end_ns, session.until_ns));
  history.active_end = SecondsOf(session, ActiveEnd(session, process));
  history.end = process.end;
  return history;
}

}  // namespace ollamatrace
