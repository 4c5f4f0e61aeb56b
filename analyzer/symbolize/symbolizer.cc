#include "analyzer/symbolize/symbolizer.h"

#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "analyzer/symbolize/dwarf_index.h"
#include "analyzer/symbolize/go_binary.h"
#include "analyzer/symbolize/mini_debug_info.h"
#include "analyzer/symbolize/module_files.h"
#include "analyzer/symbolize/name_pool.h"
#include "analyzer/symbolize/symbol_table.h"

namespace ollamatrace {
namespace {

// What is known about one module, and the answers given so far.
class Module {
 public:
  Module(ModuleSpec spec, const SymbolizerOptions& options, Debuginfod* servers, NamePool* names)
      : spec_(std::move(spec)), options_(options), servers_(servers), names_(names) {}

  const ModuleStatus& Status() {
    Open();
    return files_.status;
  }

  absl::Span<const Frame> Lookup(uint64_t address) {
    Open();
    const auto [it, added] = answers_.try_emplace(address);
    if (added) it->second = Find(address);
    return it->second;  // The vector's frames stay where they are when the map grows.
  }

 private:
  void Open() {
    if (opened_) return;
    opened_ = true;
    files_ = FindModuleFiles(spec_, options_, servers_);
    ModuleStatus& status = files_.status;
    if (files_.module) {
      const ElfFile& elf = files_.module->elf;
      dwarf_ = DwarfIndex::Open(files_.module->file->fd(), names_);
      go_ = GoBinary::Find(elf);
      symtab_ = SymbolTable(elf, SHT_SYMTAB);
      dynsym_ = SymbolTable(elf, SHT_DYNSYM);
    }
    if (files_.debug) {
      if (dwarf_ == nullptr) dwarf_ = DwarfIndex::Open(files_.debug->file->fd(), names_);
      if (symtab_.empty()) symtab_ = SymbolTable(files_.debug->elf, SHT_SYMTAB);
    }
    if (symtab_.empty() && files_.module) {
      mini_debug_info_ = ReadMiniDebugInfo(files_.module->elf);
      const auto mini = ElfFile::Parse(mini_debug_info_);
      if (mini.ok()) symtab_ = SymbolTable(*mini, SHT_SYMTAB);
    }
    status.has_dwarf = dwarf_ != nullptr;
    status.has_gopclntab = go_ != nullptr;
    status.has_symtab = !symtab_.empty();
    status.has_dynsym = !dynsym_.empty();
  }

  std::vector<Frame> Find(uint64_t address) {
    std::vector<Frame> frames;
    if (dwarf_ != nullptr) frames = dwarf_->Find(address);
    if (!frames.empty() && !frames.back().function.empty()) return frames;

    if (frames.empty() && go_ != nullptr) {
      for (const GoFrame& frame : go_->table().Find(address)) {
        frames.push_back({names_->Intern(frame.function), names_->Intern(frame.file), frame.line,
                          frame.inlined});
      }
      if (!frames.empty()) return frames;
    }
    std::string_view symbol = symtab_.Find(address);
    if (symbol.empty()) symbol = dynsym_.Find(address);
    if (symbol.empty()) return frames;
    // DWARF may know the line and not the function: assembly.
    if (frames.empty()) frames.emplace_back();
    frames.back().function = names_->InternDemangled(symbol);
    return frames;
  }

  const ModuleSpec spec_;
  const SymbolizerOptions& options_;
  Debuginfod* const servers_;
  NamePool* const names_;
  bool opened_ = false;
  ModuleFiles files_;
  std::vector<uint8_t> mini_debug_info_;
  std::unique_ptr<DwarfIndex> dwarf_;
  std::unique_ptr<GoBinary> go_;
  SymbolTable symtab_;
  SymbolTable dynsym_;
  absl::flat_hash_map<uint64_t, std::vector<Frame>> answers_;
};

}  // namespace

class Symbolizer::Impl {
 public:
  explicit Impl(SymbolizerOptions options)
      : options_(std::move(options)), servers_(options_.progress) {}

  ModuleIndex Add(const ModuleSpec& spec) {
    const auto [it, added] =
        indices_.try_emplace({spec.path, spec.build_id}, static_cast<ModuleIndex>(modules_.size()));
    if (added) {
      modules_.emplace_back(spec, options_, options_.debuginfod ? &servers_ : nullptr, &names_);
    }
    return it->second;
  }

  Module* Get(ModuleIndex index) {
    const size_t i = static_cast<size_t>(index);
    return i < modules_.size() ? &modules_[i] : nullptr;
  }

 private:
  const SymbolizerOptions options_;
  Debuginfod servers_;
  NamePool names_;
  std::deque<Module> modules_;
  std::map<std::pair<std::string, std::string>, ModuleIndex> indices_;
};

Symbolizer::Symbolizer(SymbolizerOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}

Symbolizer::~Symbolizer() = default;

ModuleIndex Symbolizer::AddModule(const ModuleSpec& spec) { return impl_->Add(spec); }

absl::Span<const Frame> Symbolizer::Lookup(ModuleIndex module, uint64_t address, AddressKind kind) {
  Module* found = impl_->Get(module);
  if (found == nullptr) return {};
  if (kind == AddressKind::kReturn && address != 0) --address;
  return found->Lookup(address);
}

const ModuleStatus& Symbolizer::Status(ModuleIndex module) {
  static const ModuleStatus kUnknown = {.state = ModuleState::kNotAFile,
                                        .message = "no such module"};
  Module* found = impl_->Get(module);
  return found != nullptr ? found->Status() : kUnknown;
}

}  // namespace ollamatrace
