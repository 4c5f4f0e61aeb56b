#include "analyzer/cli/report_arguments.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "analyzer/cli/symbol_options.h"
#include "formats/trace_format.h"

namespace ollamatrace {
namespace {

using absl::string_view;

// Sets `value` to the one that `text` names.
template <typename Value>
absl::Status Choose(string_view text, const std::vector<std::pair<std::string, Value>>& choices,
                    Value& value) {
  std::vector<std::string> names;
  for (const auto& [name, choice] : choices) {
    if (name == text) {
      value = choice;
      return absl::OkStatus();
    }
    names.push_back(name);
  }
  return absl::InvalidArgumentError(absl::StrCat("not known; give ", absl::StrJoin(names, ", ")));
}

std::function<absl::Status(string_view)> SetText(std::string& text) {
  return [&text](string_view value) {
    if (value.empty()) return absl::InvalidArgumentError("empty");
    text = std::string(value);
    return absl::OkStatus();
  };
}

std::function<absl::Status(string_view)> Append(std::vector<std::string>& list) {
  return [&list](string_view value) {
    for (const string_view one : absl::StrSplit(value, ',')) {
      if (one.empty()) return absl::InvalidArgumentError("empty");
      list.emplace_back(one);
    }
    return absl::OkStatus();
  };
}

std::vector<std::string> DomainNames() {
  std::vector<std::string> names;
  for (int value = 0; value < 256; ++value) {
    const std::string name = DomainName(static_cast<Domain>(value));
    if (name != "unknown") names.push_back(name);
  }
  return names;
}

}  // namespace

std::vector<Option> ReportOptions(ReportArguments& arguments) {
  ReportQuery& query = arguments.query;
  std::vector<Option> options = {
      {"--format", "text|json", "text for people, json for machines (default: text)",
       [&](string_view value) {
         return Choose<Format>(value, {{"text", Format::kText}, {"json", Format::kJson}},
                               arguments.format);
       }},
      {"--top", "N", "at most N groups; 0: all (default: 20 as text, all as json)",
       [&](string_view value) {
         uint64_t top = 0;
         absl::Status status = ParseCount(value, top);
         if (status.ok()) arguments.top = top;
         return status;
       }},
      {"--group-by", "stack|function|module|thread", "what a group has in common (default: stack)",
       [&](string_view value) {
         return Choose<GroupBy>(value,
                                {{"stack", GroupBy::kStack},
                                 {"function", GroupBy::kFunction},
                                 {"module", GroupBy::kModule},
                                 {"thread", GroupBy::kThread}},
                                query.group_by);
       }},
      {"--merge-processes", "", "one group for all processes of a program, not one for each",
       [&](string_view) {
         query.merge_processes = true;
         return absl::OkStatus();
       }},
      {"--process", "NAME|PID",
       "only processes of this name or pid; lists (a,b) and repetition add to each other",
       Append(query.processes)},
      {"--module", "TEXT", "only stacks with a frame in a module whose file name holds TEXT",
       Append(query.modules)},
      {"--function", "TEXT", "only stacks with a frame whose function holds TEXT",
       [&](string_view value) {
         if (value.empty()) return absl::InvalidArgumentError("empty");
         query.functions.emplace_back(value);  // names hold commas
         return absl::OkStatus();
       }},
      {"--min-bytes", "SIZE", "only groups with at least SIZE live bytes (4096, 64K, 1M)",
       [&](string_view value) { return ParseBytes(value, query.min_bytes); }},
      {"--domain", "NAME", "only memory of this kind: heap, mapping, break, device, ...",
       [&](string_view value) {
         const std::vector<std::string> names = DomainNames();
         for (const string_view one : absl::StrSplit(value, ',')) {
           if (std::find(names.begin(), names.end(), one) == names.end()) {
             return absl::InvalidArgumentError(
                 absl::StrCat("not known; give ", absl::StrJoin(names, ", ")));
           }
           query.domains.emplace_back(one);
         }
         return absl::OkStatus();
       },
       DomainNames()},
      {"--since", "TIME",
       "only blocks allocated from TIME on: since the session's start (90s, +10m, 1.5h),\n"
       "or a mark (load, load#3: the third, load#-1: the last)",
       SetText(arguments.since)},
      {"--until", "TIME", "the state at TIME: what was allocated or freed later did not happen",
       SetText(arguments.until)},
      {"--frames", "N", "text: at most N frames of a stack; 0: all (default: 10)",
       [&](string_view value) { return ParseCount(value, arguments.text.frames); }},
      {"-v, --verbose", "", "text: all frames, processes and notes",
       [&](string_view) {
         arguments.text.frames = arguments.text.processes = arguments.text.notes = 0;
         return absl::OkStatus();
       }},
      {"--color", "auto|always|never",
       "auto: on a terminal, unless NO_COLOR is set (default: auto)",
       [&](string_view value) {
         return Choose<bool>(
             value, {{"auto", TextOfTerminal().colour}, {"always", true}, {"never", false}},
             arguments.text.colour);
       }},
      {"--progress", "",
       "tell on standard error how far long work is (default: when that is a terminal)",
       [&](string_view) {
         arguments.progress = true;
         return absl::OkStatus();
       }},
      {"-h, --help", "", "this text",
       [&](string_view) {
         arguments.help = true;
         return absl::OkStatus();
       }},
  };
  const auto presentation = std::find_if(options.begin(), options.end(), [](const Option& option) {
    return option.name == "--frames";
  });
  const std::vector<Option> symbols = SymbolOptions(arguments.symbols);
  options.insert(presentation, symbols.begin(), symbols.end());
  return options;
}

absl::Status ParseReportArguments(const std::vector<std::string>& words,
                                  ReportArguments& arguments) {
  absl::Status status = ParseArguments(words, ReportOptions(arguments),
                                       /*stop_at_positional=*/false, arguments.paths);
  if (!status.ok() || arguments.help) return status;
  if (arguments.paths.empty()) {
    return absl::InvalidArgumentError(
        "no trace given; name a trace or a session folder (see --help)");
  }
  const uint64_t standard = arguments.format == Format::kText ? 20 : 0;
  arguments.query.top = arguments.top.value_or(standard);
  return absl::OkStatus();
}

}  // namespace ollamatrace
