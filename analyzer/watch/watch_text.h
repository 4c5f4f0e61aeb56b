// A watch for people.
#ifndef OLLAMATRACE_ANALYZER_WATCH_WATCH_TEXT_H_
#define OLLAMATRACE_ANALYZER_WATCH_WATCH_TEXT_H_

#include <string>
#include <vector>

#include "analyzer/watch/breach.h"
#include "analyzer/watch/session_watch.h"

namespace ollamatrace {

// A page: processes and the stacks that grow, at most `rows` lines of `columns` characters.
std::string WatchPage(const WatchSnapshot& snapshot, const std::vector<Breach>& breaches,
                      size_t rows, size_t columns);

// One line for each process, for logs. "TIME name[pid] live ... rss ... growth ...; top: ...".
std::string WatchLines(const WatchSnapshot& snapshot, const std::string& time);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_WATCH_WATCH_TEXT_H_
