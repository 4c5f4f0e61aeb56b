#include <algorithm>
#include <cmath>
#include <ctime>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "analyzer/report/gpu_json.h"
#include "analyzer/report/memory_json.h"
#include "analyzer/report/renderers.h"
#include "analyzer/report/timeline_json.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {
namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json OrNull(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

// To the microsecond: more digits would be those of the floating point.
Json Seconds(double seconds) { return std::round(seconds * 1e6) / 1e6; }

Json Seconds(const std::optional<double>& seconds) {
  return seconds ? Seconds(*seconds) : Json(nullptr);
}

Json Rate(const std::optional<double>& rate) {
  return rate ? Json(std::round(*rate * 10) / 10) : Json(nullptr);
}

Json Rate(const std::optional<ReportRate>& rate) {
  return rate ? Rate(std::optional<double>(rate->value)) : Json(nullptr);
}

Json Interval(const std::optional<ReportRate>& rate) {
  if (!rate) return nullptr;
  return {Rate(std::optional<double>(rate->low)), Rate(std::optional<double>(rate->high))};
}

Json WallTime(uint64_t wall_ns) {
  if (wall_ns == 0) return nullptr;
  const std::time_t seconds = static_cast<std::time_t>(wall_ns / 1'000'000'000);
  std::tm utc{};
  if (gmtime_r(&seconds, &utc) == nullptr) return nullptr;
  char text[40];
  if (std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc) == 0) return nullptr;
  return absl::StrFormat("%s.%03dZ", text, wall_ns / 1'000'000 % 1000);
}

Json ErrorsJson(const std::optional<ReportErrors>& errors) {
  if (!errors) return nullptr;
  return {{"live_bytes", std::round(errors->live_bytes)},
          {"live_blocks", std::round(errors->live_blocks * 10) / 10},
          {"allocations", std::round(errors->allocations * 10) / 10},
          {"frees", std::round(errors->frees * 10) / 10},
          {"sampled_blocks", errors->sampled_blocks}};
}

Json LostJson(const ReportLost& lost) {
  return {{"definitely", {{"bytes", lost.definitely_bytes}, {"blocks", lost.definitely_blocks}}},
          {"indirectly", {{"bytes", lost.indirectly_bytes}, {"blocks", lost.indirectly_blocks}}},
          {"possibly", {{"bytes", lost.possibly_bytes}, {"blocks", lost.possibly_blocks}}}};
}

Json ScanJson(const std::optional<ReportScan>& scan) {
  if (!scan) return nullptr;
  return {{"time", Seconds(scan->time)},
          {"pause", Seconds(scan->pause)},
          {"duration", Seconds(scan->duration)},
          {"blocks_unknown", scan->blocks_unknown},
          {"lost", LostJson(scan->lost)}};
}

Json DomainJson(const ReportDomain& domain) {
  return {{"domain", domain.domain},         {"mapping", OrNull(domain.mapping)},
          {"live_bytes", domain.live_bytes}, {"live_blocks", domain.live_blocks},
          {"peak_bytes", domain.peak_bytes}, {"allocations", domain.allocations},
          {"frees", domain.frees},           {"standard_error", ErrorsJson(domain.errors)}};
}

Json ProcessJson(const Report& report, size_t index) {
  const ReportProcess& process = report.processes[index];
  Json domains = Json::array();
  for (const ReportDomain& domain : process.domains) domains.push_back(DomainJson(domain));
  const ReportDomain& host = process.host;
  const ReportMemory& memory = process.memory;
  const uint64_t start_ns =
      report.start_wall_ns == 0
          ? 0
          : report.start_wall_ns + static_cast<uint64_t>(std::max(process.start, 0.0) * 1e9);
  return {{"pid", process.pid},
          {"ppid", process.ppid},
          {"parent", OrNull(process.parent)},
          {"exe", process.exe},
          {"argv", process.argv},
          {"start", Seconds(process.start)},
          {"start_time", WallTime(start_ns)},
          {"last", Seconds(process.last)},
          {"end", process.end},
          {"mode", process.mode},
          {"sample_bytes", OrNull(process.sample_bytes)},
          {"trace", process.trace},
          {"requests", process.requests},
          {"lost_events", process.lost_events},
          {"host",
           {{"live_bytes", host.live_bytes},
            {"live_blocks", host.live_blocks},
            {"peak_bytes", host.peak_bytes},
            {"allocations", host.allocations},
            {"frees", host.frees},
            {"standard_error", ErrorsJson(host.errors)}}},
          {"gpu", GpuLedgersJson(process.gpu)},
          {"gpu_devices", GpuDevicesJson(process.gpu)},
          {"gpu_capture", GpuCaptureJson(process.gpu)},
          {"scan", ScanJson(process.scan)},
          {"domains", domains},
          {"memory",
           {{"rss_anon", OrNull(memory.rss_anon)},
            {"rss_file", OrNull(memory.rss_file)},
            {"rss_shmem", OrNull(memory.rss_shmem)},
            {"swap", OrNull(memory.swap)},
            {"retained", OrNull(memory.retained)},
            {"mapped", memory.mapped},
            {"unknown", memory.accounting ? Json(memory.accounting->unknown) : Json(nullptr)},
            {"open_files", OrNull(memory.open_files)},
            {"sockets", OrNull(memory.sockets)},
            {"threads", OrNull(memory.threads)},
            {"accounting", AccountingJson(memory)},
            {"files", MappedFilesJson(memory)}}}};
}

// `plumbing` as well for who cannot tell by the name.
Json FrameJson(const ReportFrame& frame, bool plumbing = false) {
  Json json = {{"function", OrNull(frame.function)},
               {"file", OrNull(frame.file)},
               {"line", frame.line == 0 ? Json(nullptr) : Json(frame.line)},
               {"module", OrNull(frame.module)},
               {"offset", frame.offset},
               {"inlined", frame.inlined}};
  if (frame.function.empty() && !frame.build_id.empty()) json["build_id"] = frame.build_id;
  if (plumbing) json["plumbing"] = true;
  return json;
}

Json GroupJson(const Report& report, const ReportGroup& group, JsonStacks stacks) {
  Json pids = Json::array();
  for (const size_t process : group.processes) pids.push_back(report.processes[process].pid);
  Json json = {{"rank", group.rank},
               {"pid", group.processes.size() == 1 ? pids[0] : Json(nullptr)},
               {"process", group.processes.size() == 1 ? Json(group.processes[0]) : Json(nullptr)},
               {"pids", pids},
               {"domain", group.domain},
               {"mapping", OrNull(group.mapping)},
               {"device", OrNull(group.device)},
               {"counts_as_memory", group.counts_as_memory},
               {"verdict", group.verdict},
               {"confidence", group.confidence},
               {"live_bytes", group.live_bytes},
               {"live_blocks", group.live_blocks},
               {"allocations", group.allocations},
               {"frees", group.frees},
               {"allocated_bytes", group.allocated_bytes},
               {"peak_bytes", group.peak_bytes},
               {"standard_error", ErrorsJson(group.errors)},
               {"share", std::round(group.share * 1e6) / 1e6},
               {"smallest_block", group.smallest_block},
               {"largest_block", group.largest_block},
               {"growth_bytes", group.growth_bytes},
               {"growing", group.growing},
               {"warm_up_end", Seconds(group.warm)},
               {"bytes_per_request", Rate(group.bytes_per_request)},
               {"bytes_per_token", Rate(group.bytes_per_token)},
               {"bytes_per_hour", Rate(group.bytes_per_hour)},
               {"confidence_interval",
                {{"bytes_per_request", Interval(group.bytes_per_request)},
                 {"bytes_per_token", Interval(group.bytes_per_token)},
                 {"bytes_per_hour", Interval(group.bytes_per_hour)}}},
               {"first_seen", Seconds(group.first_seen)},
               {"last_seen", Seconds(group.last_seen)},
               {"lost", group.lost ? LostJson(*group.lost) : Json(nullptr)},
               {"evidence", group.evidence},
               {"site", OrNull(group.site)},
               {"advice", OrNull(group.advice)}};
  if (group.implicitly_freed_blocks > 0) {
    json["implicitly_freed"] = {{"blocks", group.implicitly_freed_blocks},
                                {"bytes", group.implicitly_freed_bytes}};
  }
  if (report.group_by == "thread") json["thread"] = group.thread;
  if (report.timeline) {
    json["curve"] =
        stacks == JsonStacks::kFrames ? CurveJson(group.curve) : CurveChangesJson(group.curve);
  }
  json["blamed_frame"] = group.frames.empty() ? Json(nullptr) : Json(group.blamed_frame);
  return json;
}

Json CoverageJson(const Report& report) {
  const ReportCoverage& coverage = report.coverage;
  Json losses = Json::array(), modules = Json::array();
  for (const ReportLoss& loss : coverage.losses) {
    losses.push_back({{"process", loss.process},
                      {"pid", report.processes[loss.process].pid},
                      {"kind", loss.kind},
                      {"events", loss.events}});
  }
  for (const ReportModule& module : coverage.modules) {
    modules.push_back({{"path", module.path},
                       {"build_id", OrNull(module.build_id)},
                       {"state", module.state},
                       {"symbols", module.symbols},
                       {"message", OrNull(module.message)}});
  }
  return {{"complete", coverage.complete},
          {"lost_events", coverage.lost_events},
          {"losses", losses},
          {"unreadable_traces", coverage.unreadable_traces},
          {"damaged_chunks", coverage.damaged_chunks},
          {"dropped_bytes", coverage.dropped_bytes},
          {"truncated_traces", coverage.truncated_traces},
          {"unknown_records", coverage.unknown_records},
          {"unmatched_frees", coverage.unmatched_frees},
          {"allocations_over_live", coverage.allocations_over_live},
          {"modules_without_lines", modules},
          {"notes", coverage.notes}};
}

Json SessionJson(const Report& report) {
  return {{"start_time", WallTime(report.start_wall_ns)},
          {"duration", Seconds(report.duration)},
          {"since", Seconds(report.since)},
          {"until", Seconds(report.until)},
          {"requests", report.requests},
          {"group_by", report.group_by},
          {"groups", report.groups_in_all},
          {"live_bytes", report.live_bytes_in_all},
          {"live_bytes_standard_error", Rate(report.live_bytes_error)}};
}

}  // namespace

void RenderJson(const Report& report, const OutputSink& sink, JsonStacks stacks) {
  const Json session = SessionJson(report);
  sink("{\"schema\": \"ollama-leakview/report/1\",\n \"title\": ");
  sink(Dump(report.title));
  sink(",\n \"headline\": ");
  sink(Dump(OrNull(report.headline)));
  sink(",\n \"session\": ");
  sink(Dump(session));
  sink(",\n \"processes\": [");
  for (size_t i = 0; i < report.processes.size(); ++i) {
    sink(i == 0 ? "\n  " : ",\n  ");
    sink(Dump(ProcessJson(report, i)));
  }
  if (stacks == JsonStacks::kIndices) {
    sink("],\n \"frames\": [");
    for (size_t i = 0; i < report.frames.size(); ++i) {
      sink(i == 0 ? "\n  " : ",\n  ");
      sink(Dump(FrameJson(report.frames[i], report.frames[i].plumbing)));
    }
  }
  sink("],\n \"groups\": [");
  std::vector<std::string> frames(
      report.frames.size());  // each is written once, and used by many groups
  for (size_t i = 0; i < report.groups.size(); ++i) {
    const ReportGroup& group = report.groups[i];
    std::string text = Dump(GroupJson(report, group, stacks));
    text.pop_back();
    text += ",\"frames\":[";
    if (stacks == JsonStacks::kIndices) {
      text += absl::StrJoin(group.frames, ",");
    } else {
      text += absl::StrJoin(group.frames, ",", [&](std::string* out, uint32_t frame) {
        if (frames[frame].empty()) frames[frame] = Dump(FrameJson(report.frames[frame]));
        out->append(frames[frame]);
      });
    }
    text += "]}";
    sink(i == 0 ? "\n  " : ",\n  ");
    sink(text);
  }
  sink("],\n \"phases\": ");
  sink(Dump(PhasesJson(report)));
  sink(",\n \"cycles\": ");
  sink(Dump(CyclesJson(report)));
  sink(",\n \"orphans\": ");
  sink(Dump(OrphansJson(report)));
  if (report.timeline) {
    sink(",\n \"timeline\": ");
    sink(Dump(TimelineJson(report)));
  }
  sink(",\n \"fragmentation\": ");
  sink(Dump(FragmentationJson(report)));
  sink(",\n \"coverage\": ");
  sink(Dump(CoverageJson(report)));
  sink("}\n");
}

void RenderJsonLines(const Report& report, const OutputSink& sink) {
  const auto row = [&](const char* type, const Json& json) {
    Json typed = {{"type", type}};
    typed.update(json);
    sink(Dump(typed));
    sink("\n");
  };
  Json session = SessionJson(report);
  session["title"] = report.title;
  session["headline"] = OrNull(report.headline);
  row("session", session);
  for (size_t i = 0; i < report.processes.size(); ++i) row("process", ProcessJson(report, i));
  for (const ReportGroup& group : report.groups) {
    Json json = GroupJson(report, group, JsonStacks::kFrames);
    json.erase("curve");
    Json frames = Json::array();
    for (const uint32_t frame : group.frames) frames.push_back(FrameJson(report.frames[frame]));
    json["frames"] = std::move(frames);
    row("group", json);
  }
  if (!report.timeline) return;
  for (const ReportProcessCurves& curves : report.timeline->processes) {
    for (const auto& domain : curves.domains) {
      for (size_t i = 0; i < domain.bytes.size(); ++i) {
        if (!domain.bytes[i]) continue;
        row("sample", {{"t", Seconds(report.timeline->times[i])},
                       {"process", curves.process},
                       {"pid", report.processes[curves.process].pid},
                       {"domain", domain.domain},
                       {"mapping", OrNull(domain.mapping)},
                       {"live_bytes", std::llround(*domain.bytes[i])}});
      }
    }
  }
}

void RenderDiffJson(const ReportDiff& diff, uint64_t top, const OutputSink& sink) {
  const auto session = [](const DiffSession& one) {
    return Json{{"title", one.title},
                {"duration", Seconds(one.duration)},
                {"requests", one.requests},
                {"live_bytes", one.live_bytes}};
  };
  const auto side = [](const DiffSide& one) -> Json {
    if (one.verdict.empty()) return nullptr;
    return {{"live_bytes", one.live_bytes},
            {"live_blocks", one.live_blocks},
            {"allocations", one.allocations},
            {"verdict", one.verdict},
            {"bytes_per_request", Rate(one.bytes_per_request)}};
  };
  sink("{\"schema\": \"ollama-leakview/diff/1\",\n \"before\": ");
  sink(Dump(session(diff.before)));
  sink(",\n \"after\": ");
  sink(Dump(session(diff.after)));
  sink(",\n \"groups\": [");
  const size_t count = top == 0 ? diff.entries.size() : std::min<size_t>(top, diff.entries.size());
  for (size_t i = 0; i < count; ++i) {
    const DiffEntry& entry = diff.entries[i];
    static constexpr const char* kMatch[] = {"none", "stack", "function"};
    Json frames = Json::array();
    for (const uint32_t frame : entry.frames) frames.push_back(FrameJson(diff.frames[frame]));
    sink(i == 0 ? "\n  " : ",\n  ");
    sink(Dump({{"rank", i + 1},
               {"change", entry.IsNew()           ? "new"
                          : entry.IsGone()        ? "gone"
                          : entry.delta_bytes > 0 ? "grown"
                          : entry.delta_bytes < 0 ? "shrunk"
                                                  : "same"},
               {"match", kMatch[static_cast<size_t>(entry.match)]},
               {"program", entry.program},
               {"domain", entry.domain},
               {"mapping", OrNull(entry.mapping)},
               {"delta_bytes", entry.delta_bytes},
               {"before", side(entry.before)},
               {"after", side(entry.after)},
               {"blamed_frame", entry.frames.empty() ? Json(nullptr) : Json(entry.blamed_frame)},
               {"frames", frames}}));
  }
  sink("]}\n");
}

}  // namespace ollamatrace
