// Names for stacks, made in a child process.
//
// Naming reads debug information, which can take hundreds of megabytes for a large program. A child
// that ends gives them back, so that a watch stays small for days.
#ifndef OLLAMATRACE_ANALYZER_WATCH_GROUP_NAMER_H_
#define OLLAMATRACE_ANALYZER_WATCH_GROUP_NAMER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "analyzer/symbolize/symbolizer.h"
#include "analyzer/watch/live_ledger.h"

namespace ollamatrace {

struct GroupName {
  std::string function;  // "0x1234" where there is no name
  std::string file;      // may be empty
  uint32_t line = 0;
  std::string module;
  std::string Text() const;  // "LeakPrompt (leaks.cc:31)"
};

// The names of the frames to look at, of those stacks that have any. Blocks for as long as naming
// takes, and not longer than `kNamingSeconds`: what is not named by then has no name.
std::map<StackId, GroupName> NameGroups(const LiveLedger& ledger,
                                        const std::vector<StackId>& stacks,
                                        const SymbolizerOptions& symbols);
inline constexpr int kNamingSeconds = 60;

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_WATCH_GROUP_NAMER_H_
