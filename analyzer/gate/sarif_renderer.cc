#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "analyzer/gate/renderers.h"
#include "analyzer/text/function_name.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {
namespace {

using Json = nlohmann::ordered_json;

// RFC 3986: what is no part of a path is escaped.
std::string UriPath(const std::string& path) {
  std::string uri;
  for (const char c : path) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
        absl::string_view("/-._~+@=,").find(c) != absl::string_view::npos) {
      uri.push_back(c);
    } else {
      absl::StrAppendFormat(&uri, "%%%02X", static_cast<unsigned char>(c));
    }
  }
  return uri;
}

Json ArtifactLocation(const SourcePlace& place) {
  if (!place.relative) return {{"uri", "file://" + UriPath(place.file)}};
  return {{"uri", UriPath(place.file)}, {"uriBaseId", "SRCROOT"}};
}

Json PhysicalLocation(const SourcePlace& place) {
  return {{"artifactLocation", ArtifactLocation(place)}, {"region", {{"startLine", place.line}}}};
}

Json StackJson(const CheckView& view, const ReportGroup& group) {
  Json frames = Json::array();
  for (const uint32_t index : group.frames) {
    const ReportFrame& frame = view.report.frames[index];
    Json location = Json::object();
    if (!frame.file.empty() && frame.line > 0) {
      ReportGroup one;
      one.frames = {index};
      location["physicalLocation"] = PhysicalLocation(*SourceOf(view, one));
    }
    const std::string name =
        frame.function.empty() ? absl::StrCat("0x", absl::Hex(frame.offset)) : frame.function;
    location["logicalLocations"] =
        Json::array({{{"fullyQualifiedName", name}, {"kind", "function"}}});
    location["message"] = {{"text", name}};
    Json json = {{"location", location}};
    if (!frame.module.empty()) json["module"] = frame.module;
    frames.push_back(json);
  }
  return {{"message", {{"text", "where the memory was allocated"}}}, {"frames", frames}};
}

Json Result(const CheckView& view, const CheckedBudget& budget, const Culprit* culprit) {
  Json result = {{"ruleId", budget.id}, {"level", "error"}};
  std::string text = absl::StrCat(budget.title, ": ", budget.message);
  if (culprit == nullptr) {
    result["message"] = {{"text", absl::StrCat(text, budget.explanation.empty() ? "" : "; ",
                                               absl::StrJoin(budget.explanation, "; "))}};
    return result;
  }
  const ReportGroup& group = view.report.groups[culprit->group];
  text = culprit->message;
  if (!group.advice.empty()) absl::StrAppend(&text, ". ", group.advice);
  result["message"] = {{"text", text}};
  Json location = Json::object();
  if (const auto place = SourceOf(view, group)) {
    location["physicalLocation"] = PhysicalLocation(*place);
  }
  if (!group.frames.empty()) {
    const ReportFrame& blamed = view.report.frames[group.frames[group.blamed_frame]];
    const std::string name =
        blamed.function.empty() ? absl::StrCat("0x", absl::Hex(blamed.offset)) : blamed.function;
    location["logicalLocations"] =
        Json::array({{{"fullyQualifiedName", name}, {"kind", "function"}}});
    // Results of the same stack are the same from build to build: names, no lines.
    std::string print = absl::StrCat(budget.id, "|", group.domain);
    for (const uint32_t index : group.frames) {
      absl::StrAppend(&print, "|", QualifiedName(view.report.frames[index].function));
    }
    uint64_t hash = 14695981039346656037u;  // FNV-1a
    for (const char c : print) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
    result["partialFingerprints"] = {{"stack/v1", absl::StrFormat("%016x", hash)}};
    result["stacks"] = Json::array({StackJson(view, group)});
  }
  if (!location.empty()) result["locations"] = Json::array({location});
  result["properties"] = {{"verdict", group.verdict},
                          {"confidence", group.confidence},
                          {"live_bytes", group.live_bytes},
                          {"live_blocks", group.live_blocks},
                          {"evidence", group.evidence}};
  return result;
}

}  // namespace

std::string CheckAsSarif(const CheckView& view) {
  Json rules = Json::array(), results = Json::array();
  for (const CheckedBudget& budget : view.result.budgets) {
    // A stack's two budgets are one rule.
    if (rules.empty() || rules.back()["id"] != budget.id) {
      rules.push_back({{"id", budget.id},
                       {"shortDescription", {{"text", budget.title}}},
                       {"defaultConfiguration", {{"level", "error"}}}});
    }
    if (budget.outcome != Outcome::kBroken) continue;
    for (const Culprit& culprit : budget.culprits) {
      results.push_back(Result(view, budget, &culprit));
    }
    if (budget.culprits.empty()) results.push_back(Result(view, budget, nullptr));
  }
  Json run = {
      {"tool",
       {{"driver", {{"name", "ollama-leakview"}, {"version", view.version}, {"rules", rules}}}}}};
  if (absl::StartsWith(view.source_root, "/")) {
    run["originalUriBaseIds"] = {
        {"SRCROOT",
         {{"uri", absl::StrCat("file://", UriPath(view.source_root),
                               absl::EndsWith(view.source_root, "/") ? "" : "/")}}}};
  }
  run["results"] = results;
  run["columnKind"] = "utf16CodeUnits";
  const Json sarif = {{"$schema", "https://json.schemastore.org/sarif-2.1.0.json"},
                      {"version", "2.1.0"},
                      {"runs", Json::array({run})}};
  return sarif.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace ollamatrace
