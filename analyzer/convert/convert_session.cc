#include "analyzer/convert/convert_session.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "analyzer/convert/survivors_writer.h"
#include "formats/segment_files.h"

namespace ollamatrace {
namespace {

namespace fs = std::filesystem;

absl::Status CannotWrite(const fs::path& path, const std::error_code& error) {
  return absl::UnavailableError(
      absl::StrCat("cannot write ", path.string(), ": ", error.message()));
}

absl::Status MakeFolder(const fs::path& folder) {
  std::error_code error;
  const bool there = fs::exists(folder, error);
  if (there && (!fs::is_directory(folder, error) || !fs::is_empty(folder, error))) {
    return absl::AlreadyExistsError(absl::StrCat(
        folder.string(), ": is there already, and no empty folder; give a folder that is not"));
  }
  if (!there && !fs::create_directory(folder, error)) return CannotWrite(folder, error);
  return absl::OkStatus();
}

// Several sessions' marks become one file's.
absl::Status AppendFile(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (!fs::is_regular_file(from, error)) return absl::OkStatus();
  std::ifstream in(from, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!text.empty() && text.back() != '\n') text += '\n';
  std::ofstream out(to, std::ios::binary | std::ios::app);
  if (!out.write(text.data(), static_cast<std::streamsize>(text.size())).flush()) {
    return CannotWrite(to, std::make_error_code(std::errc::io_error));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ConvertSession(const Session& session, const std::string& folder,
                            const ConvertProgress& progress) {
  const fs::path out(folder);
  absl::Status status = MakeFolder(out);
  std::set<fs::path> folders;  // of the traces
  for (const TraceFile& trace : session.traces) {
    if (!status.ok()) return status;
    // One file, of however many.
    const fs::path from(ParseTraceFileName(trace.path).base);
    const std::string to = out / from.filename();
    ReadOptions options;
    if (progress) {
      options.progress = [&](uint64_t done, uint64_t in_all) {
        progress(absl::StrCat("converting ", trace.path), done, in_all);
      };
    }
    status = WriteSurvivorsTrace(trace.path, to + ".zst", options);
    for (const char* const beside : {".log", ".scan"}) {
      if (!status.ok()) return status;
      status = AppendFile(from.string() + beside, to + beside);
    }
    folders.insert(from.parent_path());
  }
  for (const fs::path& one : folders) {
    if (!status.ok()) return status;
    status = AppendFile(one / "marks.jsonl", out / "marks.jsonl");
  }
  return status;
}

}  // namespace ollamatrace
