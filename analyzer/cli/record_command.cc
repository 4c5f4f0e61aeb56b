#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "analyzer/cli/arguments.h"
#include "analyzer/cli/commands.h"
#include "analyzer/cli/target_program.h"
#include "analyzer/cli/terminal.h"
#include "analyzer/cli/tracer_library.h"
#include "formats/sample_weight.h"

namespace ollamatrace {
namespace {

// As shells have them.
constexpr int kExitCannotRun = 126;
constexpr int kExitNotFound = 127;

constexpr char kHelp[] =
    "Usage: ollama-leakview record [OPTION...] [--] CMD [ARG...]\n"
    "\n"
    "Runs CMD with libollamatrace.so preloaded: in place of this program, so that signals, "
    "standard streams and the\n"
    "exit code are CMD's own. Exit code 126: CMD cannot be run or cannot be traced; 127: there is "
    "no CMD.\n"
    "The library is OLLAMATRACE_LIB, else ../lib/libollamatrace.so or libollamatrace.so beside "
    "this program.\n"
    "\n"
    "Example: ollama-leakview record -o /tmp/trace -- ollama serve\n";

struct RecordArguments {
  bool help = false;
  std::string folder;
  std::string mode;
  std::vector<std::string> command;
};

std::vector<Option> RecordOptions(RecordArguments& arguments) {
  return {
      {"-o, --output", "DIR", "the session's folder (default: ./ollamatrace.CMD.PID)",
       [&](absl::string_view value) {
         if (value.empty()) return absl::InvalidArgumentError("empty");
         arguments.folder = std::string(value);
         return absl::OkStatus();
       }},
      {"--mode", "MODE",
       "survivors: what dies young becomes counters; full: every event; sample:BYTES, like "
       "sample:512K: blocks drawn at random, one in so many bytes (default: survivors)",
       [&](absl::string_view value) {
         uint64_t sample_bytes;
         if (value != "survivors" && value != "full" &&
             !ParseSampleMode(value.data(), value.size(), &sample_bytes)) {
           return absl::InvalidArgumentError("not known; give survivors, full or sample:BYTES");
         }
         arguments.mode = std::string(value);
         return absl::OkStatus();
       }},
      {"-h, --help", "", "this text",
       [&](absl::string_view) {
         arguments.help = true;
         return absl::OkStatus();
       }},
  };
}

}  // namespace

Manual RecordManual() {
  RecordArguments defaults;
  return MakeManual(kHelp, RecordOptions(defaults));
}

int RecordCommand(const std::vector<std::string>& words) {
  RecordArguments arguments;
  absl::Status status = ParseArguments(words, RecordOptions(arguments), /*stop_at_positional=*/true,
                                       arguments.command);
  if (status.ok() && !arguments.help && arguments.command.empty()) {
    status =
        absl::InvalidArgumentError("no command given; ollama-leakview record -- CMD (see --help)");
  }
  if (!status.ok()) {
    PrintError(status.message());
    return kExitUsage;
  }
  if (arguments.help) return PrintHelp(RecordManual());

  const char* path = getenv("PATH");
  const absl::StatusOr<std::string> program = FindProgram(
      arguments.command.front(), path == nullptr ? "/usr/local/bin:/usr/bin:/bin" : path);
  if (!program.ok()) {
    PrintError(program.status().message());
    return absl::IsNotFound(program.status()) ? kExitNotFound : kExitCannotRun;
  }
  const absl::StatusOr<std::string> library = FindTracerLibrary();
  status = library.ok() ? CheckPreloadable(*program) : library.status();
  if (!status.ok()) {
    PrintError(status.message());
    return kExitCannotRun;
  }

  if (arguments.folder.empty()) {
    const std::string& name = *program;
    arguments.folder =
        absl::StrCat("ollamatrace.", name.substr(name.rfind('/') + 1), ".", getpid());
  }
  const std::string folder = AbsolutePath(arguments.folder);
  setenv("LD_PRELOAD", PreloadWith(*library).c_str(), 1);
  setenv("OLLAMATRACE_DIR", folder.c_str(), 1);
  if (!arguments.mode.empty()) setenv("OLLAMATRACE_MODE", arguments.mode.c_str(), 1);
  if (isatty(STDERR_FILENO) == 1) {
    PrintError(absl::StrCat("recording to ", folder, "; then: ollama-leakview ", folder));
  }

  std::vector<char*> argv;
  for (std::string& word : arguments.command) argv.push_back(word.data());
  argv.push_back(nullptr);
  execv(program->c_str(), argv.data());
  PrintError(absl::StrCat(*program, ": ", strerror(errno)));
  return kExitCannotRun;
}

}  // namespace ollamatrace
