#include <algorithm>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analyzer/cli/arguments.h"
#include "analyzer/cli/commands.h"
#include "analyzer/cli/terminal.h"
#include "analyzer/scan/scan_process.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

constexpr char kHelp[] =
    "Usage: ollama-leakview scan PID\n"
    "\n"
    "Finds the live blocks of a running, traced process that nothing points to any more. The "
    "process stands still\n"
    "while it is forked; the copy is looked through. What was found is added to a file beside the "
    "trace, and the\n"
    "reports made from then on say of each stack what is lost. Takes the right to trace the "
    "process "
    "(ptrace).\n"
    "Any word that looks like a block's address counts as a pointer to it. Definitely lost: "
    "nothing "
    "points to the\n"
    "block; indirectly: only lost blocks do; possibly: only something into its middle.\n"
    "\n"
    "Example: ollama-leakview scan $(pidof llama-server)\n";

std::string Row(const char* name, const BlockSum& sum) {
  return absl::StrFormat("  %-16s %15s bytes in %s\n", name, FormatCount(sum.bytes),
                         FormatCount(sum.blocks) + (sum.blocks == 1 ? " block" : " blocks"));
}

std::string Describe(int pid, const Scan& scan) {
  const ScanResult& result = scan.result;
  return absl::StrCat(
      "scan of ", scan.program.substr(scan.program.rfind('/') + 1), " [", pid, "]: paused for ",
      absl::StrFormat("%.1f ms, %.1f s in all, %s looked through\n",
                      static_cast<double>(result.pause_ns) / 1e6,
                      static_cast<double>(result.duration_ns) / 1e9,
                      FormatBytes(static_cast<double>(result.scanned_bytes))),
      Row("definitely lost", result.lost.definitely),
      Row("indirectly lost", result.lost.indirectly), Row("possibly lost", result.lost.possibly),
      Row("reachable", result.reachable),
      result.blocks_unknown
          ? "  Not all of its blocks are known (a child of fork, or events were lost): more may be "
            "lost than this.\n"
          : "",
      "  by stack: ollama-leakview ", scan.path.substr(0, scan.path.rfind('/')), "\n");
}

std::vector<Option> Options(bool& help) {
  return {{"-h, --help", "", "this text", [&](absl::string_view) {
             help = true;
             return absl::OkStatus();
           }}};
}

}  // namespace

Manual ScanManual() {
  bool help = false;
  return MakeManual(kHelp, Options(help));
}

int ScanCommand(const std::vector<std::string>& words) {
  bool help = false;
  std::vector<std::string> positional;
  absl::Status status =
      ParseArguments(words, Options(help), /*stop_at_positional=*/false, positional);
  int pid = 0;
  if (status.ok() && !help &&
      (positional.size() != 1 || !absl::SimpleAtoi(positional[0], &pid) || pid <= 0)) {
    status = absl::InvalidArgumentError("scan takes the number of a process (see --help)");
  }
  if (!status.ok()) {
    PrintError(status.message());
    return kExitUsage;
  }
  if (help) return PrintHelp(ScanManual());
  const absl::StatusOr<Scan> scan = ScanProcess(pid);
  if (!scan.ok()) {
    PrintError(scan.status().message());
    return kExitUnreadable;
  }
  StandardOutput output;
  output.Write(Describe(pid, *scan));
  if (status = output.Finish(); !status.ok()) {
    PrintError(status.message());
    return kExitUnreadable;
  }
  return kExitFine;
}

}  // namespace ollamatrace
