#include "analyzer/cli/load_history.h"

#include <time.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "analyzer/load/live_memory_map.h"
#include "analyzer/load/scan_file.h"
#include "analyzer/load/session.h"
#include "analyzer/load/time_reference.h"
#include "analyzer/replay/replay.h"
#include "formats/segment_files.h"
#include "formats/trace_reader.h"

namespace ollamatrace {
namespace {

uint64_t FirstStart(const Session& session) {
  uint64_t start = kNever;
  for (const TraceFile& trace : session.traces) {
    const TraceHead head = PeekTrace(trace.path);
    if (head.known) start = std::min(start, head.start_ns);
  }
  return start == kNever ? 0 : start;
}

absl::Status SetWindow(const Session& session, const LoadOptions& options, ReplayOptions& replay) {
  if (options.since.empty() && options.until.empty()) return absl::OkStatus();
  const uint64_t start = FirstStart(session);
  const auto resolve = [&](absl::string_view option, const std::string& text, uint64_t& time) {
    if (text.empty()) return absl::OkStatus();
    const absl::StatusOr<uint64_t> found = ResolveTime(text, start, session.marks);
    if (!found.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(option, ": ", found.status().message()));
    }
    time = *found;
    return absl::OkStatus();
  };
  if (absl::Status status = resolve("--since", options.since, replay.since_ns); !status.ok())
    return status;
  if (absl::Status status = resolve("--until", options.until, replay.until_ns); !status.ok())
    return status;
  if (replay.since_ns > replay.until_ns) {
    return absl::InvalidArgumentError(
        absl::StrCat("--since=", options.since, " is later than --until=", options.until));
  }
  return absl::OkStatus();
}

// As it is now is better than as it was at the library's last look; that one will do, too.
void AddLiveMemoryMap(const TraceFile& trace, Replay& replay) {
  const std::string journal = absl::StrCat(ParseTraceFileName(trace.path).base, ".journal");
  const absl::StatusOr<std::string> body =
      ReadLiveMemoryMap(PeekTrace(trace.path).pid, OwnMappingsAddress(journal));
  if (!body.ok()) return;
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  replay.OnMemoryMap(
      {static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec),
       {body->data(), body->size()}});
}

}  // namespace

absl::StatusOr<LoadedSession> LoadHistory(const std::vector<std::string>& paths,
                                          const LoadOptions& options) {
  Session session = FindSession(paths);
  LoadedSession loaded;
  loaded.errors = std::move(session.errors);
  SessionHistory& history = loaded.history;
  history.notes = std::move(session.notes);

  ReplayOptions replay_options;
  replay_options.by_thread = options.by_thread;
  replay_options.keep_layout = options.keep_layout;
  if (absl::Status status = SetWindow(session, options, replay_options); !status.ok())
    return status;
  history.since_ns = replay_options.since_ns;
  history.until_ns = replay_options.until_ns;
  for (const Mark& mark : session.marks) {
    if (mark.name != kRequestMark) continue;
    replay_options.request_times.push_back(mark.time_ns);
    if (mark.time_ns >= history.since_ns && mark.time_ns <= history.until_ns) ++history.requests;
  }

  history.marks = std::move(session.marks);

  std::vector<absl::Status> unreadable;
  for (const TraceFile& trace : session.traces) {
    Replay replay(replay_options);
    ReadOptions read_options;
    if (options.progress) {
      read_options.progress = [&](uint64_t done, uint64_t in_all) {
        options.progress(absl::StrCat("reading ", trace.path), done, in_all);
      };
    }
    const absl::StatusOr<ReadSummary> summary = ReadTrace(trace.path, replay, read_options);
    if (!summary.ok()) {
      (trace.named ? loaded.errors : unreadable).push_back(summary.status());
      continue;
    }
    if (options.keep_layout && summary->owner_alive && history.until_ns == kNever) {
      AddLiveMemoryMap(trace, replay);
    }
    history.processes.push_back(replay.Finish(*summary));
    history.processes.back().path = trace.path;
    history.processes.back().scan = ReadLastScan(ScanPath(trace.path), history.until_ns);
  }
  MarkExecs(history.processes);

  history.unreadable_traces = unreadable.size();
  if (history.processes.empty() && loaded.errors.empty() && !unreadable.empty()) {
    // One line, however many there are.
    absl::Status first = unreadable.front();
    loaded.errors.push_back(
        unreadable.size() == 1
            ? first
            : absl::Status(first.code(),
                           absl::StrCat("none of ", unreadable.size(),
                                        " traces can be read; the first: ", first.message())));
  } else {
    for (const absl::Status& status : unreadable) {
      history.notes.push_back(absl::StrCat("left out: ", status.message()));
    }
  }

  history.start_ns = kNever;
  for (const ProcessHistory& process : history.processes) {
    if (process.start_ns >= history.start_ns) continue;
    history.start_ns = process.start_ns;
    history.wall_ns = process.wall_ns;
  }
  if (history.start_ns == kNever) history.start_ns = 0;
  return loaded;
}

}  // namespace ollamatrace
