#include "analyzer/cli/tracer_library.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ollamatrace {

std::string AbsolutePath(const std::string& path) {
  if (absl::StartsWith(path, "/")) return path;
  char folder[PATH_MAX];
  return getcwd(folder, sizeof(folder)) == nullptr ? path : absl::StrCat(folder, "/", path);
}

absl::StatusOr<std::string> FindTracerLibrary() {
  std::vector<std::string> candidates;
  if (const char* chosen = getenv("OLLAMATRACE_LIB"); chosen != nullptr && *chosen != '\0') {
    candidates.push_back(AbsolutePath(chosen));
  } else {
    char self[PATH_MAX];
    const ssize_t size = readlink("/proc/self/exe", self, sizeof(self));
    const absl::string_view path(self, size < 0 ? 0 : static_cast<size_t>(size));
    const absl::string_view folder = path.substr(0, path.rfind('/'));
    candidates.push_back(absl::StrCat(folder, "/../lib/libollamatrace.so"));
    candidates.push_back(absl::StrCat(folder, "/libollamatrace.so"));
  }
  for (const std::string& candidate : candidates) {
    char real[PATH_MAX];
    if (access(candidate.c_str(), R_OK) != 0 || realpath(candidate.c_str(), real) == nullptr)
      continue;
    // ld.so(8): the list is separated by spaces or colons, and there is no way to quote them.
    if (strpbrk(real, " :") != nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat(real,
                       ": LD_PRELOAD takes no path with a space or a colon; copy the library "
                       "elsewhere and set OLLAMATRACE_LIB"));
    }
    return std::string(real);
  }
  return absl::NotFoundError(absl::StrCat(
      candidates.front(), ": no such library; set OLLAMATRACE_LIB to libollamatrace.so"));
}

std::string PreloadWith(const std::string& library) {
  const char* others = getenv("LD_PRELOAD");
  return others == nullptr || *others == '\0' ? library : absl::StrCat(library, ":", others);
}

}  // namespace ollamatrace
