// What Prometheus scrapes, in its text format 0.0.4, by prometheus-cpp.
#ifndef OLLAMATRACE_ANALYZER_WATCH_METRICS_H_
#define OLLAMATRACE_ANALYZER_WATCH_METRICS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "analyzer/watch/breach.h"
#include "analyzer/watch/session_watch.h"

namespace ollamatrace {

// The names are told in WATCH.md. Series of processes and stacks come and go with them; their
// number is bounded by the snapshot's.
std::string MetricsText(const WatchSnapshot& snapshot, const std::vector<Breach>& breaches,
                        const Budgets& budgets, uint64_t alarms);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_WATCH_METRICS_H_
