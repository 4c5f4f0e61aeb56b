#include "analyzer/load/session.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "formats/segment_files.h"
#include "formats/trace_reader.h"

namespace ollamatrace {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxMarksBytes = size_t{256} << 20;
constexpr size_t kMaxLogBytes = size_t{64} << 10;
constexpr size_t kMaxLogLines = 20;

// At most `limit` bytes of a regular file; "" when it cannot be read.
std::string ReadSome(const fs::path& path, size_t limit) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return "";
  std::ifstream in(path, std::ios::binary);
  std::string text;
  char buffer[1 << 16];
  while (in && text.size() < limit) {
    in.read(buffer, static_cast<std::streamsize>(std::min(sizeof(buffer), limit - text.size())));
    text.append(buffer, static_cast<size_t>(in.gcount()));
  }
  return text;
}

// "<exe>.<pid>.<start>.log". A server's own log may lie in the same folder.
bool IsOfTheLibrary(const fs::path& log) {
  const std::string name = log.stem().string();
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '.');
  const auto is_number = [](absl::string_view part) {
    return !part.empty() && std::all_of(part.begin(), part.end(), absl::ascii_isdigit);
  };
  return parts.size() > 2 && is_number(parts[parts.size() - 1]) &&
         is_number(parts[parts.size() - 2]);
}

class Finder {
 public:
  explicit Finder(Session& session) : session_(session) {}

  void Add(const std::string& name) {
    const fs::path path(name);
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) {
      const std::string why = error && error != std::errc::no_such_file_or_directory
                                  ? error.message()
                                  : "no such file or directory";
      session_.errors.push_back(absl::NotFoundError(
          absl::StrCat(name, ": ", why, "; give a trace, a journal or a session folder")));
      return;
    }
    if (!fs::is_directory(status)) {
      if (!fs::is_regular_file(status)) {
        // A pipe or a device would block or never end.
        session_.errors.push_back(absl::InvalidArgumentError(absl::StrCat(
            name, ": not a regular file; give a trace, a journal or a session folder")));
        return;
      }
      AddFile(path, /*named=*/true);
      if (folders_.insert(Key(path.parent_path())).second) {
        AddMarks(path.has_parent_path() ? path.parent_path() : fs::path("."));
      }
      return;
    }
    std::string why;
    if (!AddFolder(path, why)) {
      bool found = false;
      for (const fs::path& child : Children(path, why)) {
        std::string ignored;
        if (fs::is_directory(child, error) && AddFolder(child, ignored)) found = true;
      }
      if (!found) {
        session_.errors.push_back(absl::NotFoundError(
            absl::StrCat(name, ": ", why.empty() ? "holds no traces (*.zst, *.journal)" : why,
                         "; was the program started with LD_PRELOAD=libollamatrace.so and "
                         "OLLAMATRACE_DIR set to this folder?")));
      }
    }
  }

 private:
  static std::string Key(const fs::path& path) {
    std::error_code error;
    const fs::path canonical = fs::weakly_canonical(path.empty() ? fs::path(".") : path, error);
    return error ? path.string() : canonical.string();
  }

  static std::vector<fs::path> Children(const fs::path& folder, std::string& why) {
    std::vector<fs::path> children;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      children.push_back(it->path());
    }
    if (error) why = error.message();
    std::sort(children.begin(), children.end());
    return children;
  }

  // The files of one process are read together.
  void AddFile(const fs::path& path, bool named) {
    const TraceFileName name = ParseTraceFileName(path.string());
    const fs::path base = name.kind == TraceFileKind::kOther ? path : fs::path(name.base);
    if (!files_.insert(Key(base)).second) return;
    fs::path chosen = path;
    if (name.kind == TraceFileKind::kJournal) {
      const SegmentFiles files = FindSegmentFiles(name.base);
      if (!files.segments.empty()) chosen = files.segments.begin()->second;
    }
    session_.traces.push_back({chosen.string(), named});
  }

  bool AddFolder(const fs::path& folder, std::string& why) {
    bool found = false;
    std::vector<fs::path> logs;
    std::error_code error;
    for (const fs::path& child : Children(folder, why)) {
      const std::string extension = child.extension().string();
      if (!fs::is_regular_file(child, error)) continue;
      if (extension == ".zst" || extension == ".journal") {
        AddFile(child, /*named=*/false);
        found = true;
      } else if (extension == ".log" && IsOfTheLibrary(child)) {
        logs.push_back(child);
      }
    }
    if (found) {
      for (const fs::path& log : logs) AddLog(log);
      if (folders_.insert(Key(folder)).second) AddMarks(folder);
    }
    return found;
  }

  void AddLog(const fs::path& path) {
    if (!files_.insert(Key(path)).second) return;
    const std::string text = ReadSome(path, kMaxLogBytes);
    size_t lines = 0;
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      line = absl::StripAsciiWhitespace(line);
      if (line.empty()) continue;
      if (++lines > kMaxLogLines) {
        session_.notes.push_back(
            absl::StrCat(path.filename().string(), ": and more, see the file"));
        break;
      }
      session_.notes.push_back(absl::StrCat(path.filename().string(), ": ", line));
    }
  }

  void AddMarks(const fs::path& folder) {
    const fs::path path = folder / "marks.jsonl";
    Marks marks = ParseMarks(ReadSome(path, kMaxMarksBytes));
    if (marks.bad_lines > 0) {
      session_.notes.push_back(absl::StrCat(path.string(), ": ", marks.bad_lines,
                                            " lines are no marks and were skipped"));
    }
    session_.marks.insert(session_.marks.end(), marks.marks.begin(), marks.marks.end());
  }

  Session& session_;
  std::set<std::string> files_;
  std::set<std::string> folders_;
};

class HeadVisitor : public TraceVisitor {
 public:
  void OnHeader(const HeaderRecord& header) override {
    if (head.known) return;
    head.known = true;
    head.pid = header.pid;
    head.start_ns = header.start_ns;
    head.wall_ns = header.wall_ns;
    head.exe =
        header.exe.data == nullptr ? std::string() : std::string(header.exe.data, header.exe.size);
  }
  TraceHead head;
};

}  // namespace

Session FindSession(const std::vector<std::string>& paths) {
  Session session;
  Finder finder(session);
  for (const std::string& path : paths) finder.Add(path);
  std::stable_sort(session.marks.begin(), session.marks.end(),
                   [](const Mark& a, const Mark& b) { return a.time_ns < b.time_ns; });
  return session;
}

TraceHead PeekTrace(const std::string& path) {
  HeadVisitor visitor;
  // The header is the first record of the first chunk, and no chunk's frame is longer than its
  // limit.
  if (absl::EndsWith(path, ".zst")) {
    (void)ReadTraceBytes(ReadSome(path, size_t{1} << 20), visitor);
  }
  if (!visitor.head.known) (void)ReadTrace(path, visitor);
  return visitor.head;
}

}  // namespace ollamatrace
