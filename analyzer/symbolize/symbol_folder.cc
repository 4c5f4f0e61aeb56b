#include "analyzer/symbolize/symbol_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "analyzer/symbolize/mapped_file.h"

namespace ollamatrace {
namespace {

namespace fs = std::filesystem;

constexpr absl::string_view kSuffix = ".symbols";
constexpr absl::string_view kUnfinished = ".unfinished-";
constexpr size_t kMaxFileBytes = size_t{64} << 20;
constexpr size_t kMaxNamedBuildId = 64;  // bytes; longer than any linker's
constexpr std::chrono::hours kAbandoned{1};

// FNV-1a: the name of a file, checked against what the file itself says.
uint64_t Hash(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

absl::Status CannotWrite(const std::string& path, int error) {
  return absl::UnavailableError(absl::StrCat("cannot write ", path, ": ", std::strerror(error)));
}

// Closes `file` in any case. 0 or the error.
int WriteAll(int file, const std::string& bytes) {
  int error = 0;
  for (size_t done = 0; done < bytes.size() && error == 0;) {
    const ssize_t written = write(file, bytes.data() + done, bytes.size() - done);
    if (written > 0) {
      done += static_cast<size_t>(written);
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  if (close(file) != 0 && error == 0) error = errno;
  return error;
}

// With its parents.
int MakeFolder(const std::string& path) {
  std::error_code error;
  const fs::path parent = fs::path(path).parent_path();
  if (!parent.empty()) fs::create_directories(parent, error);
  return mkdir(path.c_str(), 0700) == 0 || errno == EEXIST ? 0 : errno;
}

}  // namespace

std::string SymbolFolder::FileOf(const ModuleSpec& module) const {
  const std::string name =
      module.build_id.empty()
          ? absl::StrCat("path-", absl::Hex(Hash(module.path), absl::kZeroPad16))
      : module.build_id.size() > kMaxNamedBuildId
          ? absl::StrCat("id-", absl::Hex(Hash(module.build_id), absl::kZeroPad16))
          : absl::BytesToHexString(module.build_id);
  return absl::StrCat(path_, "/", name, kSuffix);
}

std::unique_ptr<StoredSymbols> SymbolFolder::Load(const ModuleSpec& module) const {
  const auto file = MappedFile::Open(FileOf(module));
  if (!file.ok() || (*file)->bytes().size() > kMaxFileBytes) return nullptr;
  const ByteSpan bytes = (*file)->bytes();
  auto stored = StoredSymbols::Decode({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (!stored.ok()) return nullptr;
  const ModuleSpec& of = (*stored)->head().module;
  if (of.build_id != module.build_id) return nullptr;
  if (of.build_id.empty() && of.path != module.path) return nullptr;
  return *std::move(stored);
}

absl::Status SymbolFolder::Save(const StoredSymbolsHead& head, const SymbolAnswers& answers) const {
  const std::string bytes = EncodeStoredSymbols(head, answers);
  if (bytes.size() > kMaxFileBytes) return absl::OkStatus();  // nobody would read it
  if (const int error = MakeFolder(path_); error != 0) return CannotWrite(path_, error);
  std::string unfinished = absl::StrCat(path_, "/", kUnfinished, "XXXXXX");
  const int file = mkostemp(unfinished.data(), O_CLOEXEC);
  if (file < 0) return CannotWrite(path_, errno);
  int error = WriteAll(file, bytes);
  if (error == 0 && std::rename(unfinished.c_str(), FileOf(head.module).c_str()) != 0)
    error = errno;
  if (error == 0) return absl::OkStatus();
  unlink(unfinished.c_str());
  return CannotWrite(path_, error);
}

void SymbolFolder::Touch(const ModuleSpec& module) const {
  utimensat(AT_FDCWD, FileOf(module).c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
}

void SymbolFolder::Shrink(uint64_t limit) const {
  struct Entry {
    fs::file_time_type used;
    uint64_t size = 0;
    fs::path path;
  };
  std::vector<Entry> entries;
  uint64_t size = 0;
  std::error_code error;
  for (fs::directory_iterator it(path_, error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;
    if (it->symlink_status(gone).type() != fs::file_type::regular) continue;
    const std::string name = it->path().filename().string();
    Entry entry = {it->last_write_time(gone), it->file_size(gone), it->path()};
    if (gone) continue;
    if (absl::StartsWith(name, kUnfinished)) {
      if (entry.used + kAbandoned < fs::file_time_type::clock::now()) fs::remove(entry.path, gone);
    } else if (absl::EndsWith(name, kSuffix)) {
      size += entry.size;
      entries.push_back(std::move(entry));
    }
  }
  if (size <= limit) return;
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.used, a.path) < std::tie(b.used, b.path);
  });
  for (const Entry& entry : entries) {
    if (size <= limit) break;
    fs::remove(entry.path, error);
    size -= entry.size;
  }
}

}  // namespace ollamatrace
