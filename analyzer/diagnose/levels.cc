#include "analyzer/diagnose/levels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "analyzer/diagnose/group_history.h"

namespace ollamatrace {

std::optional<double> StepCurve::At(double seconds) const {
  if (seconds < begin_ || seconds > end_) return std::nullopt;
  const auto& moments = curve_.seconds;
  const auto it = std::upper_bound(moments.begin(), moments.end(), seconds);
  if (it == moments.begin()) return 0;
  return curve_.bytes[static_cast<size_t>(it - moments.begin()) - 1];
}

StepCurve CurveOfDomain(const SessionHistory& session, const ProcessHistory& process, Domain domain,
                        MappingClass mapping) {
  GroupSeries::Sums sums;
  for (const auto& [key, stats] : process.stacks) {
    if (key.domain == domain && key.mapping == mapping) process.series.AddTo(stats.row, sums);
  }
  const auto seconds = [&](uint64_t time_ns) {
    return (static_cast<double>(time_ns) - static_cast<double>(session.start_ns)) / 1e9;
  };
  const double begin = seconds(std::max(process.complete_from_ns(), session.since_ns));
  const double end = seconds(std::min(process.end_ns, session.until_ns));
  return {CurveOverTime(session, process, sums), begin, std::max(begin, end)};
}

HostLevels::HostLevels(const SessionHistory& session,
                       absl::Span<const ProcessHistory* const> processes,
                       absl::Span<const double> ends) {
  for (size_t i = 0; i < processes.size(); ++i) {
    for (const Domain domain : {Domain::kHeap, Domain::kMapping}) {
      curves_.push_back(CurveOfDomain(session, *processes[i], domain, MappingClass::kAnonymous));
      StepCurve& curve = curves_.back();
      curve.SetEnd(ends[i]);
      moments_.insert(moments_.end(), curve.moments().begin(), curve.moments().end());
      moments_.push_back(curve.begin());
      moments_.push_back(curve.end());
      // Then it holds nothing.
      moments_.push_back(std::nextafter(curve.end(), std::numeric_limits<double>::infinity()));
    }
  }
  std::sort(moments_.begin(), moments_.end());
  moments_.erase(std::unique(moments_.begin(), moments_.end()), moments_.end());
}

double HostLevels::At(double seconds) const {
  double level = 0;
  for (const StepCurve& curve : curves_) level += curve.At(seconds).value_or(0);
  return level;
}

LiveCurve HostLevels::Between(double begin, double end) const {
  LiveCurve levels;
  const auto add = [&](double moment) {
    levels.x.push_back(moment);
    levels.seconds.push_back(moment);
    levels.bytes.push_back(At(moment));
  };
  add(begin);
  for (auto it = std::upper_bound(moments_.begin(), moments_.end(), begin);
       it != moments_.end() && *it < end; ++it) {
    add(*it);
  }
  if (end > begin) add(end);
  return levels;
}

double HostLevels::Peak(double begin, double end) const {
  const LiveCurve levels = Between(begin, end);
  return *std::max_element(levels.bytes.begin(), levels.bytes.end());
}

}  // namespace ollamatrace
