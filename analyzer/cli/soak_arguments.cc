#include "analyzer/cli/soak_arguments.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "analyzer/cli/read_small_file.h"
#include "analyzer/text/units.h"
#include "formats/sample_weight.h"

namespace ollamatrace {
namespace {

using absl::string_view;
using Set = std::function<absl::Status(string_view)>;

Set Text(std::string& text) {
  return [&text](string_view value) {
    if (value.empty()) return absl::InvalidArgumentError("empty");
    text = std::string(value);
    return absl::OkStatus();
  };
}
Set Count(uint64_t& count) {
  return [&count](string_view value) {
    absl::Status status = ParseCount(value, count);
    if (status.ok() && count == 0) status = absl::InvalidArgumentError("has to be 1 at least");
    return status;
  };
}
template <typename Seconds>
Set Time(Seconds& seconds) {
  return [&seconds](string_view value) {
    double parsed = 0;
    absl::Status status = ParseSeconds(value, parsed);
    if (status.ok()) seconds = parsed;
    return status;
  };
}
// The option makes phases, which a plan has already.
Set OfPhases(SoakArguments& arguments, Set set) {
  return [&arguments, set = std::move(set)](string_view value) {
    arguments.phases_given = true;
    return set(value);
  };
}

std::vector<Option> RunOptions(SoakArguments& arguments) {
  SoakOptions& soak = arguments.soak;
  SoakPlan& plan = soak.plan;
  TargetOptions& target = soak.target;
  return {
      {"--server", "ollama|llama-server", "how it is started, loaded and unloaded",
       [&](string_view value) { return ParseServerKind(value, plan.server); }},
      {"--url", "URL", "a server that runs already, under the library; -o is its OLLAMATRACE_DIR",
       Text(target.url)},
      {"--port", "N", "of the server that is started (default: any that is free)",
       [&](string_view value) {
         uint64_t port = 0;
         absl::Status status = ParseCount(value, port);
         if (status.ok() && (port == 0 || port > 65535)) {
           status = absl::InvalidArgumentError("not a port");
         }
         target.port = static_cast<uint16_t>(port);
         return status;
       }},
      {"-o, --output", "DIR", "the session's folder (default: ./ollamatrace.soak.PID)",
       Text(soak.session)},
      {"--mode", "MODE", "of the library, as `record --mode`",
       [&](string_view value) {
         uint64_t sample_bytes;
         if (value != "survivors" && value != "full" &&
             !ParseSampleMode(value.data(), value.size(), &sample_bytes)) {
           return absl::InvalidArgumentError("not known; give survivors, full or sample:BYTES");
         }
         arguments.mode = std::string(value);
         return absl::OkStatus();
       }},
      {"--model", "NAME", "the model's name (llama-server: optional)", Text(plan.model)},
      {"--api", "NAME",
       absl::StrCat(absl::StrJoin(ApiNames(), ", "), " (default: generate, of\n",
                    "llama-server openai-completion)"),
       [&](string_view value) { return ParseApi(value, plan.api); }, ApiNames()},
      {"--stream", "", "answers come piece by piece",
       [&](string_view) {
         plan.stream = true;
         return absl::OkStatus();
       }},
      {"--tokens", "N", "to generate for each request (default: 16)", Count(plan.tokens)},
      {"--workers", "N", "requests at a time (default: 2)", Count(plan.workers)},
      {"--rate", "N",
       "requests a second (0.5, 30/min), of all workers; default: the next one\n"
       "goes out when an answer has come",
       [&](string_view value) {
         double rate = 0;
         absl::Status status = ParseRate(value, rate);
         if (status.ok()) plan.rate = rate;
         return status;
       }},
      {"--prompts", "distinct|repeated|mixed", "mixed: in length (default: distinct)",
       [&](string_view value) { return ParsePromptKind(value, plan.prompts.kind); }},
      {"--prompt-words", "N", "of a generated prompt (default: 16)", Count(plan.prompts.words)},
      {"--prompt-file", "FILE", "prompts, one a line, in turn", Text(arguments.prompt_file)},
      {"--plan", "FILE", "a YAML file with phases, or with what the options up to --cycles say",
       Text(arguments.plan_file)},
      {"--warm-up", "TIME", "before the steady load; 0: none (default: 10s)",
       OfPhases(arguments, Time(arguments.phases.warm_up_seconds))},
      {"--duration", "TIME", "of the steady load (default: 60s)",
       OfPhases(arguments, Time(arguments.phases.steady_seconds))},
      {"--requests", "N", "of the steady load, which ends with them",
       OfPhases(arguments,
                [&](string_view value) {
                  uint64_t count = 0;
                  absl::Status status = Count(count)(value);
                  if (status.ok()) arguments.phases.steady_requests = count;
                  return status;
                })},
      {"--idle", "TIME", "after the steady load; 0: none (default: 15s)",
       OfPhases(arguments, Time(arguments.phases.idle_seconds))},
      {"--settle", "TIME", "after the unload (default: 5s)",
       OfPhases(arguments, Time(arguments.phases.settle_seconds))},
      {"--cycles", "N",
       "load, warm-up, load on the server, idle, unload so many times (default: 1)",
       OfPhases(arguments, Count(arguments.phases.cycles))},
      {"--request-timeout", "TIME", "how long an answer may take (default: 120s)",
       Time(soak.request_seconds)},
      {"--ready-timeout", "TIME", "how long starting and loading may take (default: 120s)",
       Time(target.ready_seconds)},
      {"--max-errors", "SHARE", "of requests that may fail (default: 1%)",
       [&](string_view value) {
         return ParseBudgetValue(BudgetUnit::kShare, value, soak.most_errors);
       }},
      {"--no-check", "", "no budgets at the end",
       [&](string_view) {
         arguments.run_check = false;
         return absl::OkStatus();
       }},
  };
}

bool Has(const std::vector<SoakPhase>& phases, SoakPhase::Action action) {
  return std::any_of(phases.begin(), phases.end(),
                     [&](const SoakPhase& one) { return one.action == action; });
}

absl::Status Finish(SoakArguments& arguments) {
  SoakPlan& plan = arguments.soak.plan;
  const bool url = !arguments.soak.target.url.empty();
  if (url == !arguments.command.empty()) {
    return absl::InvalidArgumentError(
        url ? "--url is of a server that runs already, and a command was given: one or the other"
            : "no server: give --url, or a command after --");
  }
  if (url && arguments.soak.target.port != 0) {
    return absl::InvalidArgumentError("--port is of a server that is started; --url names another");
  }
  if (url && !arguments.mode.empty()) {
    return absl::InvalidArgumentError("--mode is of a server that is started; --url names another");
  }
  if (url && arguments.soak.session.empty()) {
    return absl::InvalidArgumentError(
        "--url needs -o DIR: the server's OLLAMATRACE_DIR, where its trace is");
  }
  const bool drives = arguments.phases_given;
  if (!plan.phases.empty() && drives) {
    return absl::InvalidArgumentError(
        "--plan has phases; --warm-up, --duration, --requests, --idle, --settle and --cycles make "
        "others: one or the other");
  }
  if (!arguments.prompt_file.empty()) {
    if (absl::Status status = ReadPrompts(arguments.prompt_file, plan.prompts); !status.ok()) {
      return status;
    }
  }
  if (plan.phases.empty()) {
    plan.phases = MakePhases(arguments.phases);
    if (url && plan.server == ServerKind::kLlamaServer && arguments.phases.cycles == 1) {
      plan.phases.pop_back();  // another's llama-server cannot be unloaded
    }
  }
  if (url && plan.server == ServerKind::kLlamaServer &&
      Has(plan.phases, SoakPhase::Action::kUnload)) {
    return absl::InvalidArgumentError(
        "a llama-server unloads its model by ending, and --url names one that was not started "
        "here: "
        "leave out unload and --cycles, or give its command");
  }
  if (plan.model.empty()) {
    if (plan.server == ServerKind::kOllama) {
      return absl::InvalidArgumentError("no model; give --model=NAME");
    }
    plan.model = "default";
  }
  if (plan.server == ServerKind::kLlamaServer && plan.api != Api::kOpenAiChat &&
      plan.api != Api::kOpenAiCompletion) {
    return absl::InvalidArgumentError(
        "a llama-server has no such --api: give openai-chat or openai-completion");
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<Option> SoakOptionTable(SoakArguments& arguments) {
  std::vector<Option> options = RunOptions(arguments);
  std::vector<Option> check = CheckOptions(arguments.check);
  options.insert(options.end(), std::make_move_iterator(check.begin()),
                 std::make_move_iterator(check.end()));
  options.push_back({"-h, --help", "", "this text", [&](string_view) {
                       arguments.help = true;
                       return absl::OkStatus();
                     }});
  return options;
}

absl::Status ParseSoakArguments(const std::vector<std::string>& words, SoakArguments& arguments) {
  // Flags go before the plan: it is read first, so they are parsed twice.
  SoakArguments first;
  std::vector<std::string> command;
  absl::Status status =
      ParseArguments(words, SoakOptionTable(first), /*stop_at_positional=*/true, command);
  if (!status.ok()) return status;
  if (first.help) {
    arguments.help = true;
    return absl::OkStatus();
  }
  bool api_in_plan = false;
  if (!first.plan_file.empty()) {
    const absl::StatusOr<std::string> text = ReadSmallFile(first.plan_file);
    if (!text.ok()) return text.status();
    SoakPlan& plan = arguments.soak.plan;
    const SoakPlan untouched;
    status = ReadPlan(first.plan_file, *text, plan, arguments.phases);
    if (!status.ok()) return status;
    api_in_plan = plan.api != untouched.api;
  }
  status = ParseArguments(words, SoakOptionTable(arguments), true, arguments.command);
  if (!status.ok()) return status;
  const bool api_given = std::any_of(words.begin(), words.end(), [](const std::string& word) {
    return word == "--api" || word.rfind("--api=", 0) == 0;
  });
  if (!api_in_plan && !api_given && arguments.soak.plan.server == ServerKind::kLlamaServer) {
    arguments.soak.plan.api = Api::kOpenAiCompletion;
  }
  return Finish(arguments);
}

}  // namespace ollamatrace
