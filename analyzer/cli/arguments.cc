#include "analyzer/cli/arguments.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace ollamatrace {
namespace {

const Option* Find(const std::vector<Option>& options, absl::string_view name) {
  for (const Option& option : options) {
    for (const absl::string_view one : absl::StrSplit(option.name, ", ")) {
      if (one == name) return &option;
    }
  }
  return nullptr;
}

}  // namespace

absl::Status ParseArguments(const std::vector<std::string>& arguments,
                            const std::vector<Option>& options, bool stop_at_positional,
                            std::vector<std::string>& positional) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    const bool rest = argument == "--";
    if (rest || argument == "-" || !absl::StartsWith(argument, "-")) {
      if (!rest && !stop_at_positional) {
        positional.push_back(argument);
        continue;
      }
      positional.insert(positional.end(),
                        arguments.begin() + static_cast<std::ptrdiff_t>(i + (rest ? 1 : 0)),
                        arguments.end());
      break;
    }
    const size_t equals = absl::StartsWith(argument, "--") ? argument.find('=') : std::string::npos;
    const std::string name = argument.substr(0, equals);
    const Option* option = Find(options, name);
    if (option == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("unknown option ", name, "; see --help"));
    }
    std::string value;
    if (option->placeholder.empty()) {
      if (equals != std::string::npos) {
        return absl::InvalidArgumentError(absl::StrCat(name, " takes no value"));
      }
    } else if (equals != std::string::npos) {
      value = argument.substr(equals + 1);
    } else if (i + 1 < arguments.size()) {
      value = arguments[++i];
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " needs a value: ", name, "=", option->placeholder));
    }
    if (const absl::Status status = option->set(value); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(name, "=", value, ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

std::string DescribeOptions(const std::vector<Option>& options) {
  constexpr size_t kColumn = 26;
  std::string text;
  for (const Option& option : options) {
    std::string line =
        absl::StrCat("  ", option.name, option.placeholder.empty() ? "" : "=", option.placeholder);
    if (line.size() + 2 > kColumn) {
      absl::StrAppend(&text, line, "\n");
      line.clear();
    }
    for (const absl::string_view help : absl::StrSplit(option.help, '\n')) {
      line.append(kColumn - line.size(), ' ');
      absl::StrAppend(&text, line, help, "\n");
      line.clear();
    }
  }
  return text;
}

absl::Status ParseCount(absl::string_view text, uint64_t& count) {
  if (!absl::SimpleAtoi(text, &count)) return absl::InvalidArgumentError("not a number");
  return absl::OkStatus();
}

}  // namespace ollamatrace
