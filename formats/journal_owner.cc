#include "formats/journal_owner.h"

#include <sys/sysmacros.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace ollamatrace {
namespace {

struct ThreadStat {
  bool known = false;
  bool running = false;  // neither a zombie nor dead
  uint64_t start = 0;
};

ThreadStat ReadStat(const std::string& path) {
  ThreadStat stat;
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line)) return stat;
  // The second field is the name in parentheses and may hold anything, parentheses too.
  const size_t close = line.rfind(") ");
  if (close == std::string::npos) return stat;
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(line).substr(close + 2), ' ');
  constexpr size_t kState = 0, kStart = 22 - 3;
  if (fields.size() <= kStart || !absl::SimpleAtoi(fields[kStart], &stat.start)) return stat;
  stat.known = true;
  stat.running = fields[kState] != "Z" && fields[kState] != "X";
  return stat;
}

enum class Mapped { kYes, kNo, kUnknown };

Mapped IsMapped(const JournalOwner& owner, const std::string& path) {
  std::ifstream in(path);
  if (!in) return Mapped::kUnknown;
  // proc(5): address perms offset major:minor inode path. Some file systems (btrfs, overlayfs) show
  // another device here than stat does: then the name must do.
  const std::string device = absl::StrCat(absl::Hex(major(owner.device), absl::kZeroPad2), ":",
                                          absl::Hex(minor(owner.device), absl::kZeroPad2));
  std::string line;
  bool any = false;
  while (std::getline(in, line)) {
    any = true;
    const std::vector<absl::string_view> fields =
        absl::StrSplit(line, absl::MaxSplits(' ', 5), absl::SkipEmpty());
    uint64_t inode = 0;
    if (fields.size() < 6 || !absl::SimpleAtoi(fields[4], &inode) || inode != owner.inode) continue;
    if (fields[3] == device || absl::StrContains(fields[5], owner.file_name)) return Mapped::kYes;
  }
  // Without permission, opening succeeds and reading fails (ptrace(2), access mode checking).
  return any ? Mapped::kNo : Mapped::kUnknown;
}

// When the first thread has ended, the process is a zombie that runs.
std::string RunningThread(const std::string& process) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(process + "/task", error), end; !error && it != end;
       it.increment(error)) {
    if (ReadStat(it->path().string() + "/stat").running) return it->path().string();
  }
  return "";
}

}  // namespace

bool OwnerAlive(const JournalOwner& owner, const std::string& proc) {
  if (owner.pid == 0) return false;
  std::string process = absl::StrCat(proc, "/", owner.pid);
  const ThreadStat stat = ReadStat(process + "/stat");
  const bool start_known = owner.process_start != 0;
  if (!stat.known || (start_known && stat.start != owner.process_start)) return false;
  if (!stat.running) {
    process = RunningThread(process);
    if (process.empty()) return false;
  }
  if (owner.inode == 0) return start_known;
  const Mapped mapped = IsMapped(owner, process + "/maps");
  return mapped == Mapped::kYes || (mapped == Mapped::kUnknown && start_known);
}

}  // namespace ollamatrace
