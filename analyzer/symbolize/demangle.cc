#include "analyzer/symbolize/demangle.h"

#include <cxxabi.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <utility>

namespace ollamatrace {
namespace {

// Longer names exist (expression templates), but nobody reads them, and the demangler's work grows
// faster than its input.
constexpr size_t kMaxMangled = 4096;

// A readable name of more characters is shown as it came.
constexpr size_t kMaxDemangled = 16 << 10;

// What the demangler may write at most, as a power of two.
constexpr double kMaxExpansion = 28;

bool IsBase36(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z'); }

// A bound of the demangled length, as a power of two. References to earlier parts (S_, S0_, T_) are
// written out each time: 200 characters can stand for a gigabyte. A part that is referred to n
// times is written at most n + 1 times for each time that what refers to it is; a pack (Dp, sp)
// repeats its pattern for each argument. Letters of plain names may count as references, which only
// raises the bound. Of 136000 names in the libraries of a Debian 12, 34 lie above kMaxExpansion.
double ExpansionBound(std::string_view mangled) {
  const double length = std::log2(static_cast<double>(mangled.size()) + 1);
  double bound = length;
  std::map<std::string_view, int> references;
  for (size_t i = 0; i + 1 < mangled.size(); ++i) {
    const std::string_view rest = mangled.substr(i);
    if (rest.starts_with("Dp") || rest.starts_with("sp")) bound += length;
    if (rest[0] != 'S' && rest[0] != 'T') continue;
    size_t end = 1;
    while (end < rest.size() && IsBase36(rest[end])) ++end;
    if (end < rest.size() && rest[end] == '_') ++references[rest.substr(0, end)];
  }
  for (const auto& [reference, count] : references) bound += std::log2(1 + count);
  return bound;
}

bool IsHexDigit(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

// A legacy Rust path ends in "::h" and 16 hexadecimal digits: a C++ name with that ending is not
// plausible.
bool EndsInRustHash(std::string_view demangled) {
  constexpr size_t kHash = 19;
  if (demangled.size() <= kHash) return false;
  const std::string_view tail = demangled.substr(demangled.size() - kHash);
  return tail.starts_with("::h") && std::all_of(tail.begin() + 3, tail.end(), IsHexDigit);
}

// Undoes the escapes of the legacy scheme (rustc's symbol_names/legacy.rs): "$LT$" for '<', "$u7b$"
// for '{', ".." for "::".
std::string UnescapeRust(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, char>, 8> kEscapes = {{{"$SP$", '@'},
                                                                                 {"$BP$", '*'},
                                                                                 {"$RF$", '&'},
                                                                                 {"$LT$", '<'},
                                                                                 {"$GT$", '>'},
                                                                                 {"$LP$", '('},
                                                                                 {"$RP$", ')'},
                                                                                 {"$C$", ','}}};
  std::string result;
  while (!name.empty()) {
    if (name.starts_with("..")) {
      result += "::";
      name.remove_prefix(2);
      continue;
    }
    // An escape may not begin an identifier: rustc puts '_' before it.
    if (name.starts_with("_$") && (result.empty() || result.ends_with("::"))) name.remove_prefix(1);
    if (name.front() == '$') {
      const auto* escape =
          std::find_if(kEscapes.begin(), kEscapes.end(),
                       [&](const auto& candidate) { return name.starts_with(candidate.first); });
      if (escape != kEscapes.end()) {
        result += escape->second;
        name.remove_prefix(escape->first.size());
        continue;
      }
      // "$u20$": a character by its code; all that rustc writes so are printable ASCII.
      if (name.size() >= 5 && name[1] == 'u' && IsHexDigit(name[2]) && IsHexDigit(name[3]) &&
          name[4] == '$') {
        const int code = std::stoi(std::string(name.substr(2, 2)), nullptr, 16);
        if (code >= 0x20 && code < 0x7f) {
          result += static_cast<char>(code);
          name.remove_prefix(5);
          continue;
        }
      }
    }
    result += name.front();
    name.remove_prefix(1);
  }
  return result;
}

}  // namespace

std::string Demangle(std::string_view name) {
  if (!name.starts_with("_Z") || name.size() > kMaxMangled) return std::string(name);
  // What the compiler or the linker appended (".constprop.0", "@GLIBCXX_3.4") is not part of the
  // mangled name for every demangler.
  const size_t version = name.find('@');
  const std::string mangled(name.substr(0, version));
  if (ExpansionBound(mangled) > kMaxExpansion) return std::string(name);
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> demangled(
      abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status), &std::free);
  if (status != 0 || demangled == nullptr) return std::string(name);
  std::string_view text = demangled.get();
  if (text.size() > kMaxDemangled) return std::string(name);
  if (!EndsInRustHash(text)) return std::string(text);
  text.remove_suffix(19);
  return UnescapeRust(text);
}

}  // namespace ollamatrace
