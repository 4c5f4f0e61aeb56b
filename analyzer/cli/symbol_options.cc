#include "analyzer/cli/symbol_options.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "analyzer/cli/terminal.h"
#include "analyzer/load/session.h"

namespace ollamatrace {
namespace {

namespace fs = std::filesystem;
using absl::string_view;

constexpr string_view kOff = "off";

// The variable's value where it is an absolute path, as the XDG Base Directory Specification has
// it.
std::string AbsolutePath(const char* variable) {
  const char* const value = std::getenv(variable);
  return value != nullptr && *value == '/' ? value : "";
}

std::string StandardCache() {
  if (const char* const own = std::getenv("OLLAMATRACE_SYMBOL_CACHE"); own != nullptr && *own) {
    return own == kOff ? "" : own;
  }
  std::string base = AbsolutePath("XDG_CACHE_HOME");
  if (base.empty()) {
    const std::string home = AbsolutePath("HOME");
    if (home.empty()) return "";
    base = absl::StrCat(home, "/.cache");
  }
  return absl::StrCat(base, "/ollamatrace/symbols");
}

absl::Status SetCache(string_view value, std::string& cache) {
  if (value.empty()) return absl::InvalidArgumentError("empty");
  if (value == kOff) {
    cache.clear();
    return absl::OkStatus();
  }
  cache = std::string(value);
  std::error_code error;
  fs::create_directories(cache, error);
  if (error) return absl::InvalidArgumentError(error.message());
  if (access(cache.c_str(), W_OK | X_OK) != 0) {
    return absl::InvalidArgumentError(std::strerror(errno));
  }
  return absl::OkStatus();
}

}  // namespace

SymbolizerOptions StandardSymbols() {
  SymbolizerOptions symbols;
  symbols.progress = FetchProgressOnTerminal();
  symbols.cache = StandardCache();
  return symbols;
}

std::vector<Option> SymbolOptions(SymbolizerOptions& symbols) {
  return {
      {"--sysroot", "DIR", "look for the modules' files below DIR first (a container's root)",
       [&](string_view value) {
         if (value.empty()) return absl::InvalidArgumentError("empty");
         symbols.sysroot = std::string(value);
         return absl::OkStatus();
       }},
      {"--debug-dir", "DIR", "look for debug files below DIR too (default: /usr/lib/debug)",
       [&](string_view value) {
         if (value.empty()) return absl::InvalidArgumentError("empty");
         symbols.debug_directories.emplace_back(value);
         return absl::OkStatus();
       }},
      {"--no-debuginfod", "", "ask no server of DEBUGINFOD_URLS for debug files",
       [&](string_view) {
         symbols.debuginfod = false;
         return absl::OkStatus();
       }},
      {"--symbol-cache", "DIR|off",
       "keep names in DIR, for the next time (default: OLLAMATRACE_SYMBOL_CACHE, else\n"
       "~/.cache/ollamatrace/symbols; at most 256 MiB)",
       [&](string_view value) { return SetCache(value, symbols.cache); }},
  };
}

std::string NamesBeside(string_view folder) {
  return absl::StrCat(folder.empty() ? "." : folder, "/symbols");
}

SymbolizerOptions WithNamesBeside(SymbolizerOptions symbols,
                                  const std::vector<std::string>& paths) {
  std::set<std::string> known;
  for (const TraceFile& trace : FindSession(paths).traces) {
    const std::string folder = NamesBeside(fs::path(trace.path).parent_path().string());
    std::error_code error;
    if (known.insert(folder).second && fs::is_directory(folder, error)) {
      symbols.stored_names.push_back(folder);
    }
  }
  return symbols;
}

}  // namespace ollamatrace
