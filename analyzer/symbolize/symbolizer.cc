#include "analyzer/symbolize/symbolizer.h"

#include <deque>
#include <map>
#include <utility>

#include "analyzer/symbolize/module_names.h"
#include "analyzer/symbolize/name_pool.h"
#include "analyzer/symbolize/symbol_folder.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kMaxCacheBytes = uint64_t{256} << 20;

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

  // A cache that cannot be written is none.
  void SaveCache() const {
    if (options_.cache.empty()) return;
    const SymbolFolder cache(options_.cache);
    bool saved = false;
    for (const ModuleNames& module : modules_) {
      if (module.HasNews() && module.Save(cache).ok()) saved = true;
    }
    if (saved) cache.Shrink(kMaxCacheBytes);
  }

  absl::Status Store(const SymbolFolder& folder) const {
    for (const ModuleNames& module : modules_) {
      if (absl::Status status = module.Save(folder); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  ModuleNames* Get(ModuleIndex index) {
    const size_t i = static_cast<size_t>(index);
    return i < modules_.size() ? &modules_[i] : nullptr;
  }

 private:
  const SymbolizerOptions options_;
  Debuginfod servers_;
  NamePool names_;
  std::deque<ModuleNames> modules_;
  std::map<std::pair<std::string, std::string>, ModuleIndex> indices_;
};

Symbolizer::Symbolizer(SymbolizerOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}

Symbolizer::~Symbolizer() { impl_->SaveCache(); }

ModuleIndex Symbolizer::AddModule(const ModuleSpec& spec) { return impl_->Add(spec); }

absl::Span<const Frame> Symbolizer::Lookup(ModuleIndex module, uint64_t address, AddressKind kind) {
  ModuleNames* found = impl_->Get(module);
  if (found == nullptr) return {};
  if (kind == AddressKind::kReturn && address != 0) --address;
  return found->Lookup(address);
}

const ModuleStatus& Symbolizer::Status(ModuleIndex module) {
  static const ModuleStatus kUnknown = {.state = ModuleState::kNotAFile,
                                        .message = "no such module"};
  ModuleNames* found = impl_->Get(module);
  return found != nullptr ? found->Status() : kUnknown;
}

absl::Status Symbolizer::StoreAnswers(const std::string& folder) {
  return impl_->Store(SymbolFolder(folder));
}

}  // namespace ollamatrace
