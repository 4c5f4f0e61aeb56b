// The verbs. Each takes the words after it and returns the program's exit code.
#ifndef OLLAMATRACE_ANALYZER_CLI_COMMANDS_H_
#define OLLAMATRACE_ANALYZER_CLI_COMMANDS_H_

#include <string>
#include <vector>

namespace ollamatrace {

int ReportCommand(const std::vector<std::string>& words);
int FragCommand(const std::vector<std::string>& words);
int LeaksCommand(const std::vector<std::string>& words);
int CheckCommand(const std::vector<std::string>& words);
int DiffCommand(const std::vector<std::string>& words);
int TimelineCommand(const std::vector<std::string>& words);
int ExportCommand(const std::vector<std::string>& words);
int HtmlCommand(const std::vector<std::string>& words);
int ScanCommand(const std::vector<std::string>& words);
int SoakCommand(const std::vector<std::string>& words);
// Becomes the command: returns only when that cannot be.
int RecordCommand(const std::vector<std::string>& words);

// Finds the verb; `report` where the first word is none.
int RunCommandLine(const std::vector<std::string>& words);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_COMMANDS_H_
