#include "analyzer/cli/target_program.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace ollamatrace {
namespace {

#if defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
#endif

class File {
 public:
  explicit File(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // At most `size` bytes; fewer at the end of the file or where it cannot be read.
  std::string Read(uint64_t offset, size_t size) const {
    std::string bytes(size, '\0');
    const ssize_t got =
        offset > INT64_MAX ? -1 : pread(fd_, bytes.data(), size, static_cast<off_t>(offset));
    bytes.resize(got < 0 ? 0 : static_cast<size_t>(got));
    return bytes;
  }

 private:
  int fd_;
};

bool IsExecutableFile(const std::string& path, bool& there) {
  struct stat status;
  there = stat(path.c_str(), &status) == 0;
  return there && S_ISREG(status.st_mode) && access(path.c_str(), X_OK) == 0;
}

// What the kernel will start for a script; "" when `head` is none.
std::string ScriptInterpreter(absl::string_view head) {
  if (!absl::StartsWith(head, "#!")) return "";
  head = head.substr(2, head.substr(2).find('\n'));
  const size_t begin = head.find_first_not_of(" \t");
  if (begin == absl::string_view::npos) return "";
  head = head.substr(begin);
  return std::string(head.substr(0, head.find_first_of(" \t\r")));
}

absl::Status No(const std::string& program, absl::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat(program, ": ", why, ": a preloaded library cannot be loaded into it"));
}

}  // namespace

absl::StatusOr<std::string> FindProgram(const std::string& name, absl::string_view path) {
  std::vector<std::string> candidates;
  if (absl::StrContains(name, '/')) {
    candidates.push_back(name);
  } else if (!name.empty()) {
    for (const absl::string_view folder : absl::StrSplit(path, ':')) {
      candidates.push_back(absl::StrCat(folder.empty() ? "." : folder, "/", name));
    }
  }
  bool denied = false;
  for (const std::string& candidate : candidates) {
    bool there = false;
    if (IsExecutableFile(candidate, there)) return candidate;
    denied |= there;
  }
  if (denied) return absl::PermissionDeniedError(absl::StrCat(name, ": not an executable file"));
  return absl::NotFoundError(absl::StrCat(name, ": no such program"));
}

absl::Status CheckPreloadable(const std::string& program) {
  std::string file_name = program;
  std::string head;
  for (int scripts = 0; scripts < 4; ++scripts) {
    head = File(file_name).Read(0, 4096);
    const std::string interpreter = ScriptInterpreter(head);
    if (interpreter.empty()) break;
    file_name = interpreter;
  }
  struct stat status;
  if (stat(file_name.c_str(), &status) == 0 && geteuid() != 0) {
    const bool other_user = (status.st_mode & S_ISUID) != 0 && status.st_uid != geteuid();
    const bool other_group = (status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0 &&
                             status.st_gid != getegid();
    if (other_user || other_group)
      return No(file_name, "a setuid or setgid program, for which LD_PRELOAD is ignored");
  }
  Elf64_Ehdr header;
  if (head.size() < sizeof(header) || memcmp(head.data(), ELFMAG, SELFMAG) != 0)
    return absl::OkStatus();
  memcpy(&header, head.data(), sizeof(header));
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != kMachine) {
    return No(file_name, "a program of another architecture than libollamatrace.so");
  }
  if (header.e_phentsize != sizeof(Elf64_Phdr)) return absl::OkStatus();
  const File file(file_name);
  const std::string table = file.Read(header.e_phoff, size_t{header.e_phnum} * sizeof(Elf64_Phdr));
  for (size_t at = 0; at + sizeof(Elf64_Phdr) <= table.size(); at += sizeof(Elf64_Phdr)) {
    Elf64_Phdr segment;
    memcpy(&segment, table.data() + at, sizeof(segment));
    if (segment.p_type != PT_INTERP) continue;
    const std::string linker =
        file.Read(segment.p_offset, std::min<uint64_t>(segment.p_filesz, 4096));
    if (absl::StrContains(linker, "ld-musl"))
      return No(file_name, "linked against musl, not glibc");
    return absl::OkStatus();
  }
  if (table.empty() || table.size() < size_t{header.e_phnum} * sizeof(Elf64_Phdr)) {
    return absl::OkStatus();
  }
  return No(file_name, "linked statically");
}

}  // namespace ollamatrace
