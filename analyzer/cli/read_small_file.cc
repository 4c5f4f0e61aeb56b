#include "analyzer/cli/read_small_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace ollamatrace {
namespace {

constexpr size_t kMaxFile = 1 << 20;

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::InvalidArgumentError(absl::StrCat(path, ": ", strerror(errno)));
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad() || text.size() > kMaxFile) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", file.bad() ? "cannot be read" : "larger than 1 MiB"));
  }
  return text;
}

}  // namespace ollamatrace
