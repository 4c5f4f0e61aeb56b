// The verbs: what each does with the words after it (returns the program's exit code), and what it
// says of itself.
#ifndef OLLAMATRACE_ANALYZER_CLI_COMMANDS_H_
#define OLLAMATRACE_ANALYZER_CLI_COMMANDS_H_

#include <string>
#include <vector>

#include "analyzer/cli/manual.h"

namespace ollamatrace {

int ReportCommand(const std::vector<std::string>& words);
int FragCommand(const std::vector<std::string>& words);
int LeaksCommand(const std::vector<std::string>& words);
int CheckCommand(const std::vector<std::string>& words);
int DiffCommand(const std::vector<std::string>& words);
int TimelineCommand(const std::vector<std::string>& words);
int SymbolizeCommand(const std::vector<std::string>& words);
int ExportCommand(const std::vector<std::string>& words);
int HtmlCommand(const std::vector<std::string>& words);
int ScanCommand(const std::vector<std::string>& words);
int SoakCommand(const std::vector<std::string>& words);
int WatchCommand(const std::vector<std::string>& words);
int CompletionCommand(const std::vector<std::string>& words);
int ManualCommand(const std::vector<std::string>& words);
// Becomes the command: returns only when that cannot be.
int RecordCommand(const std::vector<std::string>& words);

Manual CheckManual();
Manual CompletionManual();
Manual DiffManual();
Manual SymbolizeManual();
Manual ExportManual();
Manual FragManual();
Manual HtmlManual();
Manual LeaksManual();
Manual ManualManual();
Manual RecordManual();
Manual ReportManual();
Manual ScanManual();
Manual SoakManual();
Manual TimelineManual();
Manual WatchManual();

// Finds the verb; `report` where the first word is none.
int RunCommandLine(const std::vector<std::string>& words);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_COMMANDS_H_
