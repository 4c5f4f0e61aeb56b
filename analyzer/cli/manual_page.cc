#include "analyzer/cli/manual_page.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace ollamatrace {
namespace {

using absl::string_view;

std::string Escape(string_view text) {
  return absl::StrReplaceAll(text, {{"\\", "\\e"}, {"-", "\\-"}});
}

// A line of text: what begins with a dot or a quote would be a request.
std::string Line(string_view text) {
  const bool request = absl::StartsWith(text, ".") || absl::StartsWith(text, "'");
  return absl::StrCat(request ? "\\&" : "", Escape(text), "\n");
}

std::string Section(string_view title) { return absl::StrCat(".SH ", title, "\n"); }

// Each of `lines` as it is.
std::string AsTyped(const std::vector<std::string>& lines) {
  std::string text = ".nf\n";
  for (const std::string& line : lines) absl::StrAppend(&text, Line(line));
  return absl::StrCat(text, ".fi\n");
}

// What follows `label`, which stands on the first line, and the lines below it.
std::vector<std::string> After(string_view label, string_view block) {
  std::vector<std::string> lines;
  for (string_view line : absl::StrSplit(block, '\n', absl::SkipEmpty())) {
    absl::ConsumePrefix(&line, label);
    lines.emplace_back(absl::StripLeadingAsciiWhitespace(line));
  }
  return lines;
}

std::string Paragraph(string_view block) {
  std::string text = ".PP\n";
  bool table = false;
  for (const string_view line : absl::StrSplit(block, '\n', absl::SkipEmpty())) {
    if (absl::StartsWith(line, " ") != table) {
      table = !table;
      absl::StrAppend(&text, table ? ".nf\n" : ".fi\n");
    }
    absl::StrAppend(&text, Line(line));
  }
  if (table) absl::StrAppend(&text, ".fi\n");
  return text;
}

std::string Options(const std::vector<Option>& options) {
  std::string text;
  for (const Option& option : options) {
    absl::StrAppend(&text, ".TP\n\\fB", Escape(option.name), "\\fR");
    if (!option.placeholder.empty()) {
      absl::StrAppend(&text, "=\\fI", Escape(option.placeholder), "\\fR");
    }
    absl::StrAppend(&text, "\n");
    for (const string_view line : absl::StrSplit(option.help, '\n')) {
      absl::StrAppend(&text, Line(line));
    }
  }
  return text;
}

}  // namespace

std::string ManualPage(const Verb* verb, const Manual& manual, const std::vector<Verb>& verbs) {
  const std::string name =
      verb == nullptr ? "ollama-leakview" : absl::StrCat("ollama-leakview-", verb->name);
  std::string page = absl::StrCat(".TH ", absl::AsciiStrToUpper(name), " 1 \"\" \"ollamatrace ",
                                  OLLAMATRACE_VERSION, "\"\n", Section("NAME"));
  absl::StrAppend(&page, Escape(name), " \\- ",
                  Escape(verb == nullptr ? "which line of code keeps this memory" : verb->summary),
                  "\n");
  std::string description;
  std::string examples;
  for (const string_view block : absl::StrSplit(manual.text, "\n\n", absl::SkipEmpty())) {
    if (absl::StartsWith(block, "Usage:")) {
      absl::StrAppend(&page, Section("SYNOPSIS"), AsTyped(After("Usage: ", block)));
    } else if (absl::StartsWith(block, "Example:")) {
      absl::StrAppend(&examples, AsTyped(After("Example: ", block)));
    } else if (verb != nullptr || !absl::StartsWith(block, "Verbs:")) {
      absl::StrAppend(&description, Paragraph(block));
    }
  }
  if (!description.empty()) absl::StrAppend(&page, Section("DESCRIPTION"), description);
  if (!manual.options.empty()) {
    absl::StrAppend(&page, Section("OPTIONS"), Options(manual.options));
  }
  if (verb == nullptr) {
    absl::StrAppend(&page, Section("VERBS"));
    for (const Verb& one : verbs) {
      absl::StrAppend(&page, ".TP\n.BR ollama\\-leakview\\-", Escape(one.name), " (1)\n",
                      Line(one.summary));
    }
  }
  if (!examples.empty()) absl::StrAppend(&page, Section("EXAMPLES"), examples);
  if (verb != nullptr) {
    absl::StrAppend(&page, Section("SEE ALSO"), ".BR ollama\\-leakview (1)\n");
  }
  return page;
}

}  // namespace ollamatrace
