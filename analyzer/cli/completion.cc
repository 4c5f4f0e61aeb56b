#include "analyzer/cli/completion.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace ollamatrace {
namespace {

using absl::string_view;

// "text|json": these words and no other.
std::vector<std::string> ListedWords(string_view placeholder) {
  const bool listed = absl::StrContains(placeholder, '|') &&
                      std::none_of(placeholder.begin(), placeholder.end(), absl::ascii_isupper);
  if (!listed) return {};
  return absl::StrSplit(placeholder, '|');
}

std::vector<std::string> Values(const Option& option) {
  return option.values.empty() ? ListedWords(option.placeholder) : option.values;
}

bool IsFile(const Option& option) {
  return option.placeholder == "FILE" || option.placeholder == "DIR" ||
         option.placeholder == "PATH";
}

enum class Operands { kFiles, kWords, kProcess, kCommand };

Operands OperandsOf(const Verb& verb) {
  const string_view operands = verb.operands;
  if (absl::StrContains(operands, "CMD")) return Operands::kCommand;
  if (absl::StrContains(operands, "PID")) return Operands::kProcess;
  const bool words = absl::StrContains(operands, "VERB") || !ListedWords(operands).empty();
  return words ? Operands::kWords : Operands::kFiles;
}

std::string VerbNames(const std::vector<Verb>& verbs) {
  return absl::StrJoin(verbs, " ",
                       [](std::string* out, const Verb& verb) { out->append(verb.name); });
}

// Where OperandsOf says kWords.
std::string OperandWords(const Verb& verb, const std::vector<Verb>& verbs) {
  const std::vector<std::string> words = ListedWords(verb.operands);
  return words.empty() ? VerbNames(verbs) : absl::StrJoin(words, " ");
}

std::vector<std::string> NamesOf(const Option& option) { return absl::StrSplit(option.name, ", "); }

std::string InOneLine(string_view text) { return absl::StrReplaceAll(text, {{"\n", " "}}); }

// Within single quotes, of the Bourne family and of fish.
std::string Quoted(string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

std::string FishQuoted(string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
}

constexpr char kBashStart[] = R"sh(# bash completion of ollama-leakview
_ollama_leakview() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
  # "--name=value" comes as three words.
  if [[ $current == = ]]; then
    current=
  elif [[ $previous == = && $COMP_CWORD -ge 2 ]]; then
    previous=${COMP_WORDS[COMP_CWORD-2]}
  fi
  local verb=${COMP_WORDS[1]} options words= other=files
  COMPREPLY=()
  if [[ $COMP_CWORD -eq 1 && $current != -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W ")sh";

constexpr char kBashEnd[] = R"sh(  esac
  # Behind "--", and from a command's name on, the line is that command's.
  if [[ $other == command ]]; then
    local i
    for ((i = 2; i < COMP_CWORD; ++i)); do
      if [[ ${COMP_WORDS[i]} == -- ]]; then
        if [[ $i -eq $((COMP_CWORD - 1)) ]]; then
          mapfile -t COMPREPLY < <(compgen -c -- "$current")
        else
          compopt -o filenames 2>/dev/null
          mapfile -t COMPREPLY < <(compgen -f -- "$current")
        fi
        return
      fi
    done
  fi
  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
    if [[ ${COMPREPLY[0]} == *= ]]; then compopt -o nospace 2>/dev/null; fi
    return
  fi
  case $other in
    files)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    command) mapfile -t COMPREPLY < <(compgen -c -- "$current") ;;
    process) mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && echo [0-9]*)" -- "$current") ;;
    words) mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current") ;;
  esac
}
complete -F _ollama_leakview ollama-leakview
)sh";

// The branch of a verb: its options, what comes after the one before, what comes else.
std::string BashBranch(const Verb& verb, const std::vector<Verb>& verbs, string_view pattern) {
  std::string options;
  std::string values;
  for (const Option& option : verb.manual().options) {
    const std::vector<std::string> names = NamesOf(option);
    for (const std::string& name : names) {
      const bool long_with_value = !option.placeholder.empty() && absl::StartsWith(name, "--");
      absl::StrAppend(&options, options.empty() ? "" : " ", name, long_with_value ? "=" : "");
    }
    if (option.placeholder.empty()) continue;
    const std::vector<std::string> words = Values(option);
    absl::StrAppend(&values, "        ", absl::StrJoin(names, "|"), ") ");
    if (!words.empty()) {
      absl::StrAppend(&values, "mapfile -t COMPREPLY < <(compgen -W ",
                      Quoted(absl::StrJoin(words, " ")), " -- \"$current\"); return ;;\n");
    } else if (IsFile(option)) {
      absl::StrAppend(&values,
                      "compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -",
                      option.placeholder == "DIR" ? "d" : "f", " -- \"$current\"); return ;;\n");
    } else {
      absl::StrAppend(&values, "return ;;\n");
    }
  }
  std::string text = absl::StrCat("    ", pattern, ")\n      options=", Quoted(options), "\n");
  switch (OperandsOf(verb)) {
    case Operands::kFiles:
      break;
    case Operands::kWords:
      absl::StrAppend(&text, "      other=words words=", Quoted(OperandWords(verb, verbs)), "\n");
      break;
    case Operands::kProcess:
      absl::StrAppend(&text, "      other=process\n");
      break;
    case Operands::kCommand:
      absl::StrAppend(&text, "      other=command\n");
      break;
  }
  if (!values.empty()) {
    absl::StrAppend(&text, "      case $previous in\n", values, "      esac\n");
  }
  return absl::StrCat(text, "      ;;\n");
}

// ':', '[' and ']' have a meaning within the words of _arguments.
std::string ZshText(string_view text) {
  return absl::StrReplaceAll(InOneLine(text),
                             {{"\\", "\\\\"}, {":", "\\:"}, {"[", "\\["}, {"]", "\\]"}});
}

std::string ZshOption(const Option& option) {
  std::string value;
  if (!option.placeholder.empty()) {
    const std::vector<std::string> words = Values(option);
    std::string action = " ";
    if (!words.empty()) {
      action = absl::StrCat("(", absl::StrJoin(words, " "), ")");
    } else if (IsFile(option)) {
      action = option.placeholder == "DIR" ? "_files -/" : "_files";
    }
    value = absl::StrCat(":", ZshText(option.placeholder), ":", action);
  }
  std::string text;
  for (const std::string& name : NamesOf(option)) {
    const string_view sign = value.empty() ? "" : absl::StartsWith(name, "--") ? "=" : "+";
    absl::StrAppend(&text, " \\\n        ",
                    Quoted(absl::StrCat("*", name, sign, "[", ZshText(option.help), "]", value)));
  }
  return text;
}

std::string ZshOperands(const Verb& verb, const std::vector<Verb>& verbs) {
  switch (OperandsOf(verb)) {
    case Operands::kFiles:
      break;
    case Operands::kWords:
      return Quoted(
          absl::StrCat("1:", ZshText(verb.operands), ":(", OperandWords(verb, verbs), ")"));
    case Operands::kProcess:
      return "'1:process:_pids'";
    case Operands::kCommand:
      return "'(-)1:command:_command_names -e' '*::arguments:_normal'";
  }
  return "'*:path:_files'";
}

}  // namespace

std::string BashCompletion(const std::vector<Verb>& verbs) {
  std::string text = absl::StrCat(
      kBashStart, VerbNames(verbs),
      "\" -- \"$current\"; compgen -f -- \"$current\")\n    return\n  fi\n  case $verb in\n");
  for (size_t i = 1; i < verbs.size(); ++i) {
    absl::StrAppend(&text, BashBranch(verbs[i], verbs, verbs[i].name));
  }
  return absl::StrCat(text, BashBranch(verbs.front(), verbs, "*"), kBashEnd);
}

std::string ZshCompletion(const std::vector<Verb>& verbs) {
  std::string text =
      "#compdef ollama-leakview\n"
      "_ollama-leakview() {\n"
      "  if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then\n"
      "    local -a verbs=(";
  for (const Verb& verb : verbs) {
    absl::StrAppend(&text, "\n      ", Quoted(absl::StrCat(verb.name, ":", ZshText(verb.summary))));
  }
  absl::StrAppend(&text,
                  ")\n"
                  "    _describe -t verbs verb verbs\n"
                  "    _files\n"
                  "    return\n"
                  "  fi\n"
                  "  local verb=$words[2]\n"
                  "  if [[ $verb == (",
                  absl::StrReplaceAll(VerbNames(verbs), {{" ", "|"}}),
                  ") ]]; then\n"
                  "    shift words\n"
                  "    (( CURRENT-- ))\n"
                  "  fi\n"
                  "  case $verb in\n");
  for (size_t i = 1; i <= verbs.size(); ++i) {
    const bool last = i == verbs.size();
    const Verb& verb = last ? verbs.front() : verbs[i];
    absl::StrAppend(&text, "    ", last ? "*" : verb.name, ")\n      _arguments -S");
    for (const Option& option : verb.manual().options) absl::StrAppend(&text, ZshOption(option));
    absl::StrAppend(&text, " \\\n        ", ZshOperands(verb, verbs), " ;;\n");
  }
  return absl::StrCat(text,
                      "  esac\n"
                      "}\n"
                      "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n"
                      "  _ollama-leakview \"$@\"\n"
                      "else\n"
                      "  compdef _ollama-leakview ollama-leakview\n"
                      "fi\n");
}

std::string FishCompletion(const std::vector<Verb>& verbs) {
  std::string text = "# fish completion of ollama-leakview\n";
  const std::string first = "complete -c ollama-leakview -n ";
  for (const Verb& verb : verbs) {
    absl::StrAppend(&text, first, "'test (count (commandline -opc)) -eq 1' -a ", verb.name, " -d ",
                    FishQuoted(verb.summary), "\n");
  }
  for (const Verb& verb : verbs) {
    const bool standard = &verb == &verbs.front();
    const std::string start = absl::StrCat(
        first,
        FishQuoted(standard ? absl::StrCat("not contains -- (commandline -opc)[2] ",
                                           VerbNames({verbs.begin() + 1, verbs.end()}))
                            : absl::StrCat("contains -- ", verb.name, " (commandline -opc)[2]")));
    for (const Option& option : verb.manual().options) {
      std::string names;
      for (const std::string& name : NamesOf(option)) {
        absl::StrAppend(&names, absl::StartsWith(name, "--") ? " -l " : " -s ",
                        name.substr(absl::StartsWith(name, "--") ? 2 : 1));
      }
      std::string value;
      if (IsFile(option)) {
        value = " -r -F";
      } else if (!option.placeholder.empty()) {
        value = absl::StrCat(" -x -a ", FishQuoted(absl::StrJoin(Values(option), " ")));
      }
      absl::StrAppend(&text, start, names, value, " -d ", FishQuoted(InOneLine(option.help)), "\n");
    }
    switch (OperandsOf(verb)) {
      case Operands::kFiles:
        break;
      case Operands::kWords:
        absl::StrAppend(&text, start, " -f -a ", FishQuoted(OperandWords(verb, verbs)), "\n");
        break;
      case Operands::kProcess:
        absl::StrAppend(&text, start, " -f -a '(__fish_complete_pids)'\n");
        break;
      case Operands::kCommand:
        absl::StrAppend(&text, start, " -f -a '(__fish_complete_subcommand --fcs-skip=2)'\n");
        break;
    }
  }
  return text;
}

}  // namespace ollamatrace
