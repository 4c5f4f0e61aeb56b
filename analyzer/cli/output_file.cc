#include "analyzer/cli/output_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "analyzer/cli/terminal.h"

namespace ollamatrace {
namespace {

absl::Status CannotWrite(const std::string& path, int error) {
  return absl::UnavailableError(absl::StrCat("cannot write ", path, ": ", std::strerror(error)));
}

// A pipe or a device is written as it is.
bool IsSpecial(const std::string& path) {
  struct stat found;
  return stat(path.c_str(), &found) == 0 && !S_ISREG(found.st_mode) && !S_ISDIR(found.st_mode);
}

absl::Status WriteTo(const std::string& path,
                     const std::function<absl::Status(const OutputSink&)>& write) {
  std::FILE* const file = std::fopen(path.c_str(), "we");
  if (file == nullptr) return CannotWrite(path, errno);
  int error = 0;
  const absl::Status status = write([&](absl::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), file) != text.size() && error == 0) error = errno;
  });
  if (std::fclose(file) != 0 && error == 0) error = errno;
  if (!status.ok()) return status;
  return error == 0 ? absl::OkStatus() : CannotWrite(path, error);
}

}  // namespace

absl::Status WriteOutputPath(const std::string& path,
                             const std::function<absl::Status(const std::string&)>& write) {
  const std::string beside = absl::StrCat(path, ".part");
  absl::Status status = write(beside);
  if (status.ok() && std::rename(beside.c_str(), path.c_str()) != 0) {
    status = CannotWrite(path, errno);
  }
  if (!status.ok()) std::remove(beside.c_str());
  return status;
}

absl::Status WriteOutputFile(const std::string& path,
                             const std::function<absl::Status(const OutputSink&)>& write) {
  if (path == "-") {
    StandardOutput output;
    const absl::Status status = write([&](absl::string_view text) { output.Write(text); });
    const absl::Status finished = output.Finish();
    return status.ok() ? finished : status;
  }
  if (IsSpecial(path)) return WriteTo(path, write);
  return WriteOutputPath(path, [&](const std::string& beside) { return WriteTo(beside, write); });
}

}  // namespace ollamatrace
