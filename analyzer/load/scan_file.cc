#include "analyzer/load/scan_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "formats/segment_files.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {
namespace {

using Json = nlohmann::ordered_json;

Json SumJson(const BlockSum& sum) { return Json::array({sum.blocks, sum.bytes}); }

bool Number(const nlohmann::json& object, const char* name, uint64_t& value) {
  const auto it = object.find(name);
  if (it == object.end() || !it->is_number_unsigned()) return false;
  value = it->get<uint64_t>();
  return true;
}

bool Sum(const nlohmann::json& object, const char* name, BlockSum& sum) {
  const auto it = object.find(name);
  if (it == object.end() || !it->is_array() || it->size() != 2 || !(*it)[0].is_number_unsigned() ||
      !(*it)[1].is_number_unsigned()) {
    return false;
  }
  sum = {(*it)[0].get<uint64_t>(), (*it)[1].get<uint64_t>()};
  return true;
}

bool Lost(const nlohmann::json& object, LostBlocks& lost) {
  return Sum(object, "definitely_lost", lost.definitely) &&
         Sum(object, "indirectly_lost", lost.indirectly) &&
         Sum(object, "possibly_lost", lost.possibly);
}

std::optional<ScanResult> ParseScan(const std::string& line) {
  const nlohmann::json object =
      nlohmann::json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
  ScanResult result;
  if (!object.is_object() || !Number(object, "t", result.time_ns) ||
      !Number(object, "pause_ns", result.pause_ns) ||
      !Number(object, "duration_ns", result.duration_ns) ||
      !Number(object, "scanned_bytes", result.scanned_bytes) ||
      !Sum(object, "reachable", result.reachable) || !Lost(object, result.lost)) {
    return std::nullopt;
  }
  const auto unknown = object.find("blocks_unknown");
  if (unknown == object.end() || !unknown->is_boolean()) return std::nullopt;
  result.blocks_unknown = unknown->get<bool>();
  const auto stacks = object.find("stacks");
  if (stacks == object.end() || !stacks->is_array()) return std::nullopt;
  for (const nlohmann::json& entry : *stacks) {
    uint64_t stack = 0;
    LostBlocks lost;
    if (!entry.is_object() || !Number(entry, "stack", stack) || stack > UINT32_MAX ||
        !Lost(entry, lost)) {
      return std::nullopt;
    }
    result.stacks[static_cast<uint32_t>(stack)] = lost;
  }
  return result;
}

}  // namespace

std::string ScanPath(const std::string& trace) {
  return absl::StrCat(ParseTraceFileName(trace).base, ".scan");
}

absl::Status AppendScan(const std::string& path, const ScanResult& result) {
  Json stacks = Json::array();
  for (const auto& [stack, lost] : result.stacks) {
    Json addresses = Json::array();
    for (const uint64_t address : lost.addresses) {
      addresses.push_back(absl::StrFormat("0x%x", address));
    }
    stacks.push_back({{"stack", stack},
                      {"definitely_lost", SumJson(lost.definitely)},
                      {"indirectly_lost", SumJson(lost.indirectly)},
                      {"possibly_lost", SumJson(lost.possibly)},
                      {"addresses", addresses}});
  }
  const Json line = {{"t", result.time_ns},
                     {"pause_ns", result.pause_ns},
                     {"duration_ns", result.duration_ns},
                     {"scanned_bytes", result.scanned_bytes},
                     {"blocks_unknown", result.blocks_unknown},
                     {"reachable", SumJson(result.reachable)},
                     {"definitely_lost", SumJson(result.lost.definitely)},
                     {"indirectly_lost", SumJson(result.lost.indirectly)},
                     {"possibly_lost", SumJson(result.lost.possibly)},
                     {"stacks", stacks}};
  const std::string text = line.dump() + "\n";
  const int fd = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  const bool written =
      fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  if (fd >= 0) close(fd);
  return written ? absl::OkStatus()
                 : absl::UnavailableError(absl::StrCat(path, ": ", strerror(error)));
}

std::optional<ScanResult> ReadLastScan(const std::string& path, uint64_t until_ns) {
  std::optional<ScanResult> last;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::optional<ScanResult> result = ParseScan(line);
    if (result && result->time_ns <= until_ns && (!last || result->time_ns >= last->time_ns)) {
      last = std::move(result);
    }
  }
  return last;
}

}  // namespace ollamatrace
