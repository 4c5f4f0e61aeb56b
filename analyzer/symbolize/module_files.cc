#include "analyzer/symbolize/module_files.h"

#include <array>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace ollamatrace {
namespace {

constexpr std::string_view kDeleted = " (deleted)";

std::string Hex(const std::string& bytes) { return absl::BytesToHexString(bytes); }

absl::StatusOr<OpenElf> OpenElfFile(const std::string& path) {
  auto file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  auto elf = ElfFile::Parse((*file)->bytes());
  if (!elf.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", elf.status().message()));
  }
  return OpenElf{*std::move(file), *std::move(elf)};
}

// The checksum in .gnu_debuglink: CRC-32 as in IEEE 802.3.
uint32_t Crc32(ByteSpan bytes) {
  static const std::array<uint32_t, 256> kTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < table.size(); ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0xedb88320 : 0);
      table[i] = value;
    }
    return table;
  }();
  uint32_t crc = 0xffffffff;
  for (const uint8_t byte : bytes) crc = kTable[(crc ^ byte) & 0xff] ^ (crc >> 8);
  return ~crc;
}

std::string BuildIdPath(const std::string& folder, const std::string& build_id,
                        std::string_view suffix) {
  const std::string hex = Hex(build_id);
  return absl::StrCat(folder, "/.build-id/", hex.substr(0, 2), "/", hex.substr(2),
                      absl::string_view(suffix.data(), suffix.size()));
}

// The debug folders, each under the sysroot first.
std::vector<std::string> DebugFolders(const SymbolizerOptions& options) {
  std::vector<std::string> folders;
  for (const std::string& folder : options.debug_directories) {
    if (!options.sysroot.empty()) folders.push_back(absl::StrCat(options.sysroot, "/", folder));
    folders.push_back(folder);
  }
  return folders;
}

class Finder {
 public:
  Finder(const ModuleSpec& spec, const SymbolizerOptions& options, Debuginfod* servers)
      : build_id_(spec.build_id), options_(options), servers_(servers), path_(spec.path) {
    if (path_.ends_with(kDeleted)) path_.resize(path_.size() - kDeleted.size());
  }

  ModuleFiles Find() && {
    if (path_.empty() || path_.front() != '/') {
      files_.status.state = ModuleState::kNotAFile;
      files_.status.message = absl::StrCat("not a file: ", path_.empty() ? "(no name)" : path_);
      return std::move(files_);
    }
    FindModule();
    FindDebugFile();
    if (!files_.module && files_.debug) {
      // The debug file alone names everything but what only the loaded sections hold.
      files_.status.state = ModuleState::kOk;
      files_.status.message.clear();
    }
    if (servers_ != nullptr && files_.status.message.empty()) {
      files_.status.message = servers_->TakeTrouble();
    }
    return std::move(files_);
  }

 private:
  // Takes the file if it is the one that ran; otherwise remembers the most telling reason why not.
  bool TryModule(const std::string& path, bool by_path) {
    auto opened = OpenElfFile(path);
    if (!opened.ok()) {
      if (by_path) Refuse(opened.status(), path);
      return false;
    }
    const std::string& found = opened->elf.build_id();
    if (build_id_.empty() ? !by_path : found != build_id_) {
      if (by_path) {
        files_.status.state = ModuleState::kBuildIdDiffers;
        files_.status.message = absl::StrCat(
            "file changed since: ", path,
            found.empty() ? " has no build-id" : absl::StrCat(" has build-id ", Hex(found)),
            ", the trace recorded ", Hex(build_id_));
      }
      return false;
    }
    files_.status.state = build_id_.empty() ? ModuleState::kUnverified : ModuleState::kOk;
    files_.status.message =
        build_id_.empty() ? absl::StrCat("not verified: the trace recorded no build-id for ", path_)
                          : "";
    files_.status.file = path;
    files_.module = *std::move(opened);
    return true;
  }

  void Refuse(const absl::Status& reason, const std::string& path) {
    if (files_.status.state == ModuleState::kBuildIdDiffers) return;
    const bool missing = absl::IsNotFound(reason);
    if (missing && files_.status.state == ModuleState::kUnreadable) return;
    files_.status.state = missing || absl::IsPermissionDenied(reason) ? ModuleState::kNoFile
                                                                      : ModuleState::kUnreadable;
    files_.status.message = missing ? absl::StrCat("no such file: ", path)
                                    : std::string(reason.message().data(), reason.message().size());
  }

  void FindModule() {
    if (!options_.sysroot.empty()) {
      if (TryModule(absl::StrCat(options_.sysroot, path_), /*by_path=*/true)) return;
      // This machine's file of that name is another machine's module only if its build-id says so.
      if (!build_id_.empty() && TryModule(path_, /*by_path=*/false)) return;
    } else if (TryModule(path_, /*by_path=*/true)) {
      return;
    }
    if (build_id_.empty()) return;
    const std::string base = std::filesystem::path(path_).filename().native();
    for (const std::string& folder : DebugFolders(options_)) {
      if (TryModule(absl::StrCat(folder, "/", base), /*by_path=*/false)) return;
      if (TryModule(BuildIdPath(folder, build_id_, ""), /*by_path=*/false)) return;
    }
    const std::string fetched = Fetch(Debuginfod::Kind::kExecutable, build_id_);
    if (!fetched.empty()) TryModule(fetched, /*by_path=*/false);
  }

  std::string Fetch(Debuginfod::Kind kind, const std::string& build_id) {
    if (servers_ == nullptr) return "";
    const char* what = kind == Debuginfod::Kind::kExecutable ? "" : "debug information of ";
    return servers_->Find(kind, build_id,
                          absl::StrCat(what, std::filesystem::path(path_).filename().native()));
  }

  // `crc32`: what the module says of its debug file; enough where no build-ids can be compared.
  bool TryDebugFile(const std::string& path, std::optional<uint32_t> crc32) {
    if (path == files_.status.file) return false;
    auto opened = OpenElfFile(path);
    if (!opened.ok()) return false;
    const std::string& expected =
        build_id_.empty() && files_.module ? files_.module->elf.build_id() : build_id_;
    const bool same = expected.empty() ? crc32 && *crc32 == Crc32(opened->file->bytes())
                                       : expected == opened->elf.build_id();
    if (!same) return false;
    files_.status.debug_file = path;
    files_.debug = *std::move(opened);
    return true;
  }

  void FindDebugFile() {
    // Without a module that is right by path or build-id, only a recorded build-id can lead to a
    // debug file.
    if (!files_.module && build_id_.empty()) return;
    // A module with its own DWARF needs no other file.
    if (files_.module && (files_.module->elf.FindSection(".debug_info") != nullptr ||
                          files_.module->elf.FindSection(".zdebug_info") != nullptr)) {
      return;
    }
    const std::string& build_id = build_id_.empty() ? files_.module->elf.build_id() : build_id_;
    const std::vector<std::string> folders = DebugFolders(options_);
    if (build_id.size() > 1) {
      for (const std::string& folder : folders) {
        if (TryDebugFile(BuildIdPath(folder, build_id, ".debug"), std::nullopt)) return;
      }
    }
    for (const std::string& folder : folders) {
      if (TryDebugFile(absl::StrCat(folder, path_, ".debug"), std::nullopt)) return;
    }
    if (files_.module && TryDebugLink(folders)) return;
    const std::string fetched = Fetch(Debuginfod::Kind::kDebugInfo, build_id);
    if (!fetched.empty()) TryDebugFile(fetched, std::nullopt);
  }

  bool TryDebugLink(const std::vector<std::string>& folders) {
    // GDB's order ("Debugging Information in Separate Files"): beside the module, in .debug, in the
    // debug folders.
    const auto link = files_.module->elf.debug_link();
    if (!link) return false;
    const absl::string_view name(link->file_name.data(), link->file_name.size());
    const std::string beside = std::filesystem::path(files_.status.file).parent_path().native();
    const std::string recorded = std::filesystem::path(path_).parent_path().native();
    if (TryDebugFile(absl::StrCat(beside, "/", name), link->crc32)) return true;
    if (TryDebugFile(absl::StrCat(beside, "/.debug/", name), link->crc32)) return true;
    for (const std::string& folder : folders) {
      if (TryDebugFile(absl::StrCat(folder, recorded, "/", name), link->crc32)) return true;
      if (TryDebugFile(absl::StrCat(folder, "/", name), link->crc32)) return true;
    }
    return false;
  }

  const std::string& build_id_;
  const SymbolizerOptions& options_;
  Debuginfod* const servers_;
  std::string path_;
  ModuleFiles files_;
};

}  // namespace

ModuleFiles FindModuleFiles(const ModuleSpec& spec, const SymbolizerOptions& options,
                            Debuginfod* servers) {
  ModuleFiles files = Finder(spec, options, servers).Find();
  // One line, whatever the path holds.
  for (char& c : files.status.message) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
  }
  return files;
}

}  // namespace ollamatrace
