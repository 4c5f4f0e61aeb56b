// ReadPlan: YAML by yaml-cpp, whose exceptions end here.
#include <functional>
#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "analyzer/soak/plan.h"
#include "analyzer/text/units.h"
#include "analyzer/yaml/yaml_map.h"

namespace ollamatrace {
namespace {

using Set = std::function<absl::Status(const std::string&)>;
using Keys = std::map<std::string, Set>;

absl::Status SetCount(const std::string& text, uint64_t least, uint64_t& count) {
  uint64_t value = 0;
  if (!absl::SimpleAtoi(text, &value) || value < least) {
    return absl::InvalidArgumentError(absl::StrCat("not a number of at least ", least));
  }
  count = value;
  return absl::OkStatus();
}

Set Count(uint64_t& count, uint64_t least = 1) {
  return [&count, least](const std::string& text) { return SetCount(text, least, count); };
}
Set Count(std::optional<uint64_t>& count) {
  return [&count](const std::string& text) {
    uint64_t value = 0;
    absl::Status status = SetCount(text, 1, value);
    if (status.ok()) count = value;
    return status;
  };
}
template <typename Seconds>
Set Time(Seconds& seconds) {
  return [&seconds](const std::string& text) {
    double value = 0;
    absl::Status status = ParseSeconds(text, value);
    if (status.ok()) seconds = value;
    return status;
  };
}
Set Rate(std::optional<double>& rate) {
  return [&rate](const std::string& text) {
    double value = 0;
    absl::Status status = ParseRate(text, value);
    if (status.ok()) rate = value;
    return status;
  };
}

absl::Status ReadPhase(const YamlPlace& place, const YAML::Node& node, SoakPlan& plan) {
  SoakPhase phase;
  const Keys keys = {{"name",
                      [&](const std::string& text) {
                        phase.name = text;
                        return text.empty() ? absl::InvalidArgumentError("empty")
                                            : absl::OkStatus();
                      }},
                     {"duration", Time(phase.seconds)},
                     {"requests", Count(phase.requests)},
                     {"workers", Count(phase.workers)},
                     {"rate", Rate(phase.rate)}};
  absl::Status status = ReadYamlScalars(place, node, "a phase", keys);
  if (!status.ok()) return status;
  if (phase.name.empty()) return place.Error(node, "a phase needs a name");
  phase.action = ActionOf(phase.name);
  const bool drives = phase.action == SoakPhase::Action::kDrive;
  if (drives && !phase.seconds && !phase.requests) {
    return place.Error(node, absl::StrCat("phase ", phase.name, " needs a duration or requests"));
  }
  if (!drives && (phase.requests || phase.workers || phase.rate)) {
    return place.Error(node, absl::StrCat("phase ", phase.name, " sends no requests"));
  }
  if (phase.action == SoakPhase::Action::kIdle && !phase.seconds) {
    return place.Error(node, absl::StrCat("phase ", phase.name, " needs a duration"));
  }
  plan.phases.push_back(std::move(phase));
  return absl::OkStatus();
}

absl::Status ReadRoot(const YamlPlace& place, const YAML::Node& root, SoakPlan& plan,
                      StandardPhases& standard) {
  std::string standard_key;  // one that was given
  const auto of_standard = [&](const char* key, Set set) {
    return [&standard_key, key, set = std::move(set)](const std::string& text) {
      standard_key = key;
      return set(text);
    };
  };
  const Keys scalars = {
      {"server", [&](const std::string& text) { return ParseServerKind(text, plan.server); }},
      {"model",
       [&](const std::string& text) {
         plan.model = text;
         return absl::OkStatus();
       }},
      {"api", [&](const std::string& text) { return ParseApi(text, plan.api); }},
      {"stream",
       [&](const std::string& text) {
         if (text != "true" && text != "false") {
           return absl::InvalidArgumentError("not true or false");
         }
         plan.stream = text == "true";
         return absl::OkStatus();
       }},
      {"workers", Count(plan.workers)},
      {"rate", Rate(plan.rate)},
      {"tokens", Count(plan.tokens)},
      {"prompts",
       [&](const std::string& text) { return ParsePromptKind(text, plan.prompts.kind); }},
      {"prompt-file", [&](const std::string& text) { return ReadPrompts(text, plan.prompts); }},
      {"prompt-words", Count(plan.prompts.words)},
      {"warm-up", of_standard("warm-up", Time(standard.warm_up_seconds))},
      {"duration", of_standard("duration", Time(standard.steady_seconds))},
      {"requests", of_standard("requests", Count(standard.steady_requests))},
      {"idle", of_standard("idle", Time(standard.idle_seconds))},
      {"settle", of_standard("settle", Time(standard.settle_seconds))},
      {"cycles", of_standard("cycles", Count(standard.cycles))}};
  absl::Status status =
      ReadYamlMap(place, root, "the file", {"phases"}, scalars,
                  [&](const std::string&, const YAML::Node& list) {
                    if (!list.IsSequence())
                      return place.Error(list, "phases has to be a list, - name: load");
                    plan.phases.clear();
                    for (const YAML::Node& one : list) {
                      absl::Status phase = ReadPhase(place, one, plan);
                      if (!phase.ok()) return phase;
                    }
                    return absl::OkStatus();
                  });
  if (status.ok() && !plan.phases.empty() && !standard_key.empty()) {
    return place.Error(root, absl::StrCat("there are phases, and ", standard_key,
                                          " makes others: one or the other"));
  }
  return status;
}

}  // namespace

absl::Status ReadPlan(const std::string& name, const std::string& text, SoakPlan& plan,
                      StandardPhases& standard) {
  return ReadYaml(name, text, [&](const YamlPlace& place, const YAML::Node& root) {
    return ReadRoot(place, root, plan, standard);
  });
}

}  // namespace ollamatrace
