#include "analyzer/watch/group_namer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "analyzer/report/frame_table.h"
#include "analyzer/report/symbol_source.h"
#include "analyzer/text/function_name.h"

namespace ollamatrace {
namespace {

// A line for each stack: id, function, file, line, module, separated by tabs.
std::string NameAll(const LiveLedger& ledger, const std::vector<StackId>& stacks,
                    const SymbolizerOptions& options) {
  SymbolizerSource symbols(options);
  FrameTable frames(symbols);
  const ProcessHistory history = ledger.StacksForNaming(stacks);
  std::string text;
  const auto clean = [](const std::string& field) {
    return absl::StrReplaceAll(field, {{"\t", " "}, {"\n", " "}});
  };
  for (const StackId stack : stacks) {
    const std::vector<uint32_t> expanded = frames.Expand(0, history, stack);
    const ReportFrame* chosen = nullptr;
    for (const uint32_t index : expanded) {
      const ReportFrame& frame = frames.At(index);
      if (chosen == nullptr) chosen = &frame;
      if (frame.plumbing) continue;
      chosen = &frame;
      break;
    }
    if (chosen == nullptr) continue;
    absl::StrAppend(&text, static_cast<uint32_t>(stack), "\t",
                    chosen->function.empty() ? absl::StrCat("0x", absl::Hex(chosen->offset))
                                             : clean(chosen->function),
                    "\t", clean(chosen->file), "\t", chosen->line, "\t", clean(chosen->module),
                    "\n");
  }
  return text;
}

std::string ReadUntil(int fd, std::chrono::steady_clock::time_point deadline) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return text;
    pollfd one = {fd, POLLIN, 0};
    const int ready = poll(&one, 1, static_cast<int>(left.count()));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return text;
    const ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer, static_cast<size_t>(got));
  }
}

}  // namespace

std::string GroupName::Text() const {
  const auto base = [](const std::string& path) { return path.substr(path.rfind('/') + 1); };
  const std::string place = file.empty() ? base(module) : absl::StrCat(base(file), ":", line);
  return absl::StrCat(ShortFunction(function, 60),
                      place.empty() ? "" : absl::StrCat(" (", place, ")"));
}

std::map<StackId, GroupName> NameGroups(const LiveLedger& ledger,
                                        const std::vector<StackId>& stacks,
                                        const SymbolizerOptions& symbols) {
  std::map<StackId, GroupName> names;
  int ends[2];
  if (stacks.empty() || pipe2(ends, O_CLOEXEC) != 0) return names;
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    const std::string text = NameAll(ledger, stacks, symbols);
    size_t done = 0;
    while (done < text.size()) {
      const ssize_t written = write(ends[1], text.data() + done, text.size() - done);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) break;
      done += static_cast<size_t>(written);
    }
    _exit(0);
  }
  close(ends[1]);
  if (child > 0) {
    const std::string text =
        ReadUntil(ends[0], std::chrono::steady_clock::now() + std::chrono::seconds(kNamingSeconds));
    kill(child, SIGKILL);
    while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
    for (const absl::string_view line : absl::StrSplit(text, '\n')) {
      const std::vector<std::string> fields = absl::StrSplit(line, '\t');
      uint32_t stack = 0, number = 0;
      if (fields.size() != 5 || !absl::SimpleAtoi(fields[0], &stack) ||
          !absl::SimpleAtoi(fields[3], &number)) {
        continue;
      }
      names[StackId{stack}] = {fields[1], fields[2], number, fields[4]};
    }
  }
  close(ends[0]);
  return names;
}

}  // namespace ollamatrace
