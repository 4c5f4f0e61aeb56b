// What a verb says of itself. `--help`, the manual pages and the shells' completion are made of it.
#ifndef OLLAMATRACE_ANALYZER_CLI_MANUAL_H_
#define OLLAMATRACE_ANALYZER_CLI_MANUAL_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "analyzer/cli/arguments.h"

namespace ollamatrace {

struct Manual {
  // Blocks between empty lines: first "Usage: ..." with one way to call it on each line, last
  // "Example: ...", paragraphs between. A line that begins with a space is part of a table.
  std::string text;
  std::vector<Option> options;  // `set` is empty
};

// `options` may refer to what ends with the caller: only what they say is kept.
Manual MakeManual(absl::string_view text, std::vector<Option> options);

// As `--help` has it.
std::string ManualAsHelp(const Manual& manual);

// Writes it to standard output. Returns the program's exit code.
int PrintHelp(const Manual& manual);
int PrintText(absl::string_view text);

struct Verb {
  const char* name;
  // What comes after the options, as the usage line has it: "PATH...", "PID", "-- CMD".
  const char* operands;
  const char* summary;
  int (*run)(const std::vector<std::string>& words);
  Manual (*manual)();
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_MANUAL_H_
