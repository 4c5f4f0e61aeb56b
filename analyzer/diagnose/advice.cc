#include "analyzer/diagnose/advice.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "analyzer/diagnose/advice_table.h"
#include "analyzer/text/function_name.h"

namespace ollamatrace {
namespace {

absl::string_view BaseName(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? path : path.substr(slash + 1);
}

bool Matches(const Site& site, const StackNames& stack) {
  size_t at = 0;
  for (const absl::string_view wanted : absl::StrSplit(site.functions, " < ")) {
    const auto holds = [&](size_t i) {
      return absl::StrContains(stack.functions[i], wanted) &&
             absl::StrContains(BaseName(stack.modules[i]), site.module);
    };
    while (at < stack.functions.size() && !holds(at)) ++at;
    if (at == stack.functions.size()) return false;
    ++at;
  }
  return true;
}

}  // namespace

const Site* FindSite(const StackNames& stack) {
  for (const Site& site : kSites) {
    if (Matches(site, stack)) return &site;
  }
  return nullptr;
}

std::string NamedLikeACache(const StackNames& stack) {
  constexpr size_t kNear = 3;  // frames: further out it is somebody else's cache
  for (size_t i = 0; i < std::min(kNear, stack.functions.size()); ++i) {
    const absl::string_view name = QualifiedName(stack.functions[i]);
    const std::string lower = absl::AsciiStrToLower(name);
    for (const absl::string_view hint : {"cache", "memoiz", "lru", "intern_", "interned", "_pool",
                                         "pool::", "freelist", "free_list"}) {
      if (absl::StrContains(lower, hint)) return std::string(name);
    }
  }
  return "";
}

}  // namespace ollamatrace
