// Command lines, declared as a table.
#ifndef OLLAMATRACE_ANALYZER_CLI_ARGUMENTS_H_
#define OLLAMATRACE_ANALYZER_CLI_ARGUMENTS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "analyzer/text/units.h"

namespace ollamatrace {

struct Option {
  std::string name;         // "--top", or "-o, --output": both mean it
  std::string placeholder;  // of its value; empty: it takes none
  std::string help;
  // Takes the value ("" when it takes none). The message of an error says what is wrong with the
  // value.
  std::function<absl::Status(absl::string_view)> set;
  // Those that the value may be, where they are few; a placeholder like "text|json" says them
  // already.
  std::vector<std::string> values = {};
};

// Calls the options' functions in the order of the arguments; what is no option goes to
// `positional`. "--name=value" and
// "--name value" mean the same; after "--" everything is positional. With `stop_at_positional` the
// first one ends the options: it and all that follows is somebody else's command line.
// InvalidArgument names the option and the value.
absl::Status ParseArguments(const std::vector<std::string>& arguments,
                            const std::vector<Option>& options, bool stop_at_positional,
                            std::vector<std::string>& positional);

// One line or more for each option.
std::string DescribeOptions(const std::vector<Option>& options);

absl::Status ParseCount(absl::string_view text, uint64_t& count);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_ARGUMENTS_H_
