// Texts that many frames share, kept once.
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_NAME_POOL_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_NAME_POOL_H_

#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "analyzer/symbolize/demangle.h"

namespace ollamatrace {

// Thread-compatible. The views live as long as the pool.
class NamePool {
 public:
  std::string_view Intern(std::string_view text) { return *texts_.emplace(text).first; }

  // The readable form of a mangled name; each name is demangled once.
  std::string_view InternDemangled(std::string_view mangled) {
    const std::string_view key = Intern(mangled);
    auto [it, added] = demangled_.try_emplace(key);
    if (added) it->second = Intern(Demangle(key));
    return it->second;
  }

 private:
  std::unordered_set<std::string> texts_;  // Nodes: the texts stay where they are.
  std::unordered_map<std::string_view, std::string_view> demangled_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_NAME_POOL_H_
