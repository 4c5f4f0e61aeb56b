#include "analyzer/symbolize/module_names.h"

#include <string>
#include <string_view>
#include <utility>

#include "analyzer/symbolize/dwarf_index.h"
#include "analyzer/symbolize/go_binary.h"
#include "analyzer/symbolize/mini_debug_info.h"
#include "analyzer/symbolize/module_files.h"
#include "analyzer/symbolize/symbol_table.h"

namespace ollamatrace {

class FileNames {
 public:
  FileNames(const ModuleSpec& spec, const SymbolizerOptions& options, Debuginfod* servers,
            NamePool* names)
      : files_(FindModuleFiles(spec, options, servers)), names_(names) {
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

  bool found() const { return files_.module || files_.debug; }
  const ModuleStatus& status() const { return files_.status; }
  int rank() const { return SymbolSources::Of(files_.status).Rank(); }

  StoredSymbolsHead Head(const ModuleSpec& spec) const {
    return {spec, SymbolSources::Of(files_.status), UsedFile::At(files_.status.file),
            UsedFile::At(files_.status.debug_file)};
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

 private:
  ModuleFiles files_;
  NamePool* const names_;
  std::vector<uint8_t> mini_debug_info_;
  std::unique_ptr<DwarfIndex> dwarf_;
  std::unique_ptr<GoBinary> go_;
  SymbolTable symtab_;
  SymbolTable dynsym_;
};

ModuleNames::ModuleNames(ModuleSpec spec, const SymbolizerOptions& options, Debuginfod* servers,
                         NamePool* names)
    : spec_(std::move(spec)), options_(options), servers_(servers), names_(names) {}

ModuleNames::~ModuleNames() = default;

absl::Span<const Frame> ModuleNames::Lookup(uint64_t address) {
  Prepare();
  if (stored_ != nullptr) {
    if (const auto found = stored_->Find(address)) return *found;
  }
  const auto [it, added] = fresh_.try_emplace(address);
  if (added) {
    OpenFiles();
    if (!FilesMayBeOthers()) it->second = files_->Find(address);
  }
  return it->second;  // The vector's frames stay where they are when the map grows.
}

const ModuleStatus& ModuleNames::Status() {
  Prepare();
  if (stored_ == nullptr || FilesCount()) return files_->status();
  const StoredSymbolsHead& head = stored_->head();
  status_ = {};
  if (!fresh_.empty()) status_ = files_->status();  // Why not all is named.
  if (status_.message.empty()) status_.state = ModuleState::kOk;
  status_.file = head.file.path;
  status_.debug_file = head.debug_file.path;
  status_.has_dwarf = head.sources.dwarf;
  status_.has_gopclntab = head.sources.gopclntab;
  status_.has_symtab = head.sources.symtab;
  status_.has_dynsym = head.sources.dynsym;
  return status_;
}

void ModuleNames::Prepare() {
  if (prepared_) return;
  prepared_ = true;
  LoadStored();
  if (stored_ != nullptr && !FilesMayTellMore()) return;
  OpenFiles();
  if (stored_ != nullptr && FilesCount() && !files_->Head(spec_).SameData(stored_->head())) {
    stored_ = nullptr;
  }
}

void ModuleNames::LoadStored() {
  const auto rank = [](const StoredSymbols* stored) {
    return stored == nullptr ? -1 : stored->head().sources.Rank();
  };
  for (const std::string& folder : options_.stored_names) {
    auto found = SymbolFolder(folder).Load(spec_);
    if (rank(found.get()) > rank(stored_.get())) stored_ = std::move(found);
  }
  if (options_.cache.empty()) return;
  const SymbolFolder cache(options_.cache);
  auto found = cache.Load(spec_);
  if (rank(found.get()) <= rank(stored_.get())) return;
  // Without a build-id only the file, if it is still the same, says that these are its names.
  const UsedFile& from = found->head().file;
  if (spec_.build_id.empty() && !(from == UsedFile::At(from.path))) return;
  stored_ = std::move(found);
  cache.Touch(spec_);
}

bool ModuleNames::FilesMayTellMore() const {
  const StoredSymbolsHead& head = stored_->head();
  if (FilesMayBeOthers()) return false;
  const auto changed = [](const UsedFile& then) {
    const UsedFile now = UsedFile::At(then.path);
    return !now.path.empty() && !(now == then);
  };
  return !(head.sources.dwarf || head.sources.gopclntab) || changed(head.file) ||
         changed(head.debug_file);
}

void ModuleNames::OpenFiles() {
  if (files_ == nullptr) files_ = std::make_unique<FileNames>(spec_, options_, servers_, names_);
}

// Another module may have the same path by now, and nothing would tell.
bool ModuleNames::FilesMayBeOthers() const {
  if (stored_ == nullptr || !spec_.build_id.empty()) return false;
  const UsedFile& from = stored_->head().file;
  return from.path.empty() || !(from == UsedFile::At(from.path));
}

// Whether the files that are there tell as much as what is stored.
bool ModuleNames::FilesCount() const {
  return files_ != nullptr && files_->found() && !FilesMayBeOthers() &&
         (stored_ == nullptr || files_->rank() >= stored_->head().sources.Rank());
}

bool ModuleNames::HasNews() const { return !fresh_.empty() && FilesCount(); }

absl::Status ModuleNames::Save(const SymbolFolder& folder) const {
  SymbolAnswers answers;
  if (FilesCount()) {
    for (const auto& [address, frames] : fresh_) answers.emplace(address, frames);
  }
  if (stored_ != nullptr) stored_->AddTo(answers);
  if (answers.empty()) return absl::OkStatus();
  return folder.Save(FilesCount() ? files_->Head(spec_) : stored_->head(), answers);
}

}  // namespace ollamatrace
