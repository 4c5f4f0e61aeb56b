#include "analyzer/soak/soak.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

using Clock = std::chrono::steady_clock;
using Outcome = SoakResult::Outcome;

constexpr size_t kLastWords = 3;
constexpr double kProbeSeconds = 10;

class Soak {
 public:
  Soak(const SoakOptions& options, const SoakProgress& progress)
      : options_(options), progress_(progress), target_(Target(options)) {}

  absl::StatusOr<SoakResult> Run() {
    if (absl::Status status = marks_.Open(options_.session); !status.ok()) return status;
    if (absl::Status status = target_.Start(); !status.ok()) return status;
    result_.log = target_.ours() ? options_.target.command.log : "";
    bool first = true;
    for (const SoakPhase& phase : options_.plan.phases) {
      // A model that is not there is a mistake in the command line, not a finding.
      if (first && phase.action == SoakPhase::Action::kLoad) {
        marks_.Phase(phase.name);
        SoakPhaseResult& done = result_.phases.emplace_back();
        done.phase = phase;
        const Clock::time_point begin = Clock::now();
        absl::Status status = target_.Load();
        done.seconds = Since(begin);
        if (!status.ok() && !CheckServer("while it loaded the model")) break;
        if (!status.ok()) return status;
      } else if (!RunPhase(phase)) {
        break;
      }
      first = false;
    }
    marks_.Phase("end");
    result_.url = target_.url();
    const std::string end = target_.Stop();
    if (!end.empty()) result_.server_end = end;
    return std::move(result_);
  }

 private:
  static TargetOptions Target(const SoakOptions& options) {
    TargetOptions target = options.target;
    target.kind = options.plan.server;
    target.model = options.plan.model;
    target.api = options.plan.api;
    target.interrupted = options.interrupted;
    return target;
  }

  static double Since(Clock::time_point moment) {
    return std::chrono::duration<double>(Clock::now() - moment).count();
  }

  // False: the soak is over.
  bool RunPhase(const SoakPhase& phase) {
    marks_.Phase(phase.name);
    SoakPhaseResult& done = result_.phases.emplace_back();
    done.phase = phase;
    const Clock::time_point begin = Clock::now();
    absl::Status status;
    switch (phase.action) {
      case SoakPhase::Action::kLoad:
        Tell(phase.name, "");
        status = target_.Load();
        break;
      case SoakPhase::Action::kUnload:
        Tell(phase.name, "");
        status = target_.Unload();
        if (status.ok()) Wait(phase);
        break;
      case SoakPhase::Action::kIdle:
        Wait(phase);
        break;
      case SoakPhase::Action::kDrive:
        DrivePhase(phase, done);
        break;
    }
    done.seconds = Since(begin);
    if (result_.outcome != Outcome::kDone) return false;
    if (options_.interrupted()) return End(Outcome::kInterrupted, phase, "interrupted");
    if (!CheckServer(absl::StrCat("in phase ", phase.name))) return false;
    if (!status.ok()) return End(Outcome::kFailed, phase, std::string(status.message()));
    return true;
  }

  bool End(Outcome outcome, const SoakPhase& phase, const std::string& what) {
    result_.outcome = outcome;
    result_.evidence = absl::StrCat("in phase ", phase.name, ": ", what);
    return false;
  }

  // False: it has ended, and nobody asked it to.
  bool CheckServer(const std::string& when) {
    if (!target_.ours() || target_.unloaded_by_ending()) return true;
    const auto ended = target_.process().Ended();
    if (!ended) return true;
    result_.outcome = Outcome::kServerDied;
    result_.server_end = *ended;
    result_.evidence = absl::StrCat("the server died ", when, ": ", *ended, "; its last words: ",
                                    absl::StrJoin(target_.process().LastWords(kLastWords), " | "));
    return false;
  }

  void Tell(const std::string& phase, const std::string& text) {
    if (progress_) progress_(text.empty() ? phase : absl::StrCat(phase, ": ", text));
  }

  void Wait(const SoakPhase& phase) {
    const Clock::time_point begin = Clock::now();
    const double seconds = phase.seconds.value_or(0);
    while (Since(begin) < seconds && !options_.interrupted()) {
      if (!CheckServer(absl::StrCat("in phase ", phase.name))) return;
      Tell(phase.name, absl::StrCat(FormatSeconds(Since(begin)), " of ", FormatSeconds(seconds)));
      std::this_thread::sleep_for(
          std::chrono::duration<double>(std::clamp(seconds - Since(begin), 0.001, 0.1)));
    }
  }

  void DrivePhase(const SoakPhase& phase, SoakPhaseResult& done) {
    DriveOptions drive;
    drive.url = target_.url();
    drive.request = {options_.plan.api, options_.plan.model, "", options_.plan.stream,
                     options_.plan.tokens};
    drive.prompts = &options_.plan.prompts;
    drive.first_number = next_number_;
    drive.workers = phase.workers.value_or(options_.plan.workers);
    drive.rate = phase.rate ? phase.rate : options_.plan.rate;
    drive.seconds = phase.seconds;
    drive.requests = phase.requests;
    drive.request_seconds = options_.request_seconds;
    drive.marks = &marks_;
    drive.stop = [&] {
      return options_.interrupted() || (target_.ours() && target_.process().Ended().has_value());
    };
    done.drive = Drive(drive, [&](const DriveResult& so_far) {
      Tell(phase.name,
           absl::StrFormat("%d requests, %.1f/s, %d failed, %s%s", so_far.sent,
                           static_cast<double>(so_far.sent) / std::max(so_far.seconds, 1e-3),
                           so_far.failed, FormatSeconds(so_far.seconds),
                           phase.seconds ? " of " + FormatSeconds(*phase.seconds) : ""));
    });
    next_number_ += done.drive.sent;
    if (options_.interrupted()) return;
    const DriveResult& drove = done.drive;
    if (!CheckServer(
            absl::StrCat("in phase ", phase.name, ", after ", drove.answered, " answers"))) {
      return;
    }
    if (drove.timed_out > 0 && !target_.Answers(kProbeSeconds)) {
      End(Outcome::kServerHung, phase,
          absl::StrCat("the server hangs: ", drove.timed_out, " requests got no answer within ",
                       FormatSeconds(options_.request_seconds), ", and it does not answer now",
                       Said()));
      return;
    }
    const double share =
        static_cast<double>(drove.failed) / static_cast<double>(std::max<uint64_t>(drove.sent, 1));
    if (share <= options_.most_errors) return;
    std::vector<std::pair<uint64_t, std::string>> errors;
    for (const auto& [text, count] : drove.errors) errors.emplace_back(count, text);
    std::sort(errors.rbegin(), errors.rend());
    End(Outcome::kErrors, phase,
        absl::StrCat(drove.failed, " of ", drove.sent, " requests failed; the most, ",
                     errors.empty() ? "" : absl::StrCat(errors[0].first, ": ", errors[0].second),
                     Said()));
  }

  std::string Said() {
    if (!target_.ours()) return "";
    return absl::StrCat("; the server's last words: ",
                        absl::StrJoin(target_.process().LastWords(kLastWords), " | "));
  }

  const SoakOptions& options_;
  const SoakProgress& progress_;
  MarksFile marks_;
  TargetServer target_;
  uint64_t next_number_ = 0;
  SoakResult result_;
};

}  // namespace

const char* SoakOutcomeName(SoakResult::Outcome outcome) {
  switch (outcome) {
    case Outcome::kDone:
      return "done";
    case Outcome::kServerDied:
      return "server-died";
    case Outcome::kServerHung:
      return "server-hung";
    case Outcome::kErrors:
      return "errors";
    case Outcome::kFailed:
      return "failed";
    case Outcome::kInterrupted:
      break;
  }
  return "interrupted";
}

absl::StatusOr<SoakResult> RunSoak(const SoakOptions& options, const SoakProgress& progress) {
  return Soak(options, progress).Run();
}

}  // namespace ollamatrace
