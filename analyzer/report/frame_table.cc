#include "analyzer/report/frame_table.h"

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "analyzer/text/function_name.h"

namespace ollamatrace {
namespace {

const char* StateName(ModuleState state) {
  switch (state) {
    case ModuleState::kOk:
      return "ok";
    case ModuleState::kUnverified:
      return "unverified";
    case ModuleState::kNoFile:
      return "no-file";
    case ModuleState::kBuildIdDiffers:
      return "build-id-differs";
    case ModuleState::kUnreadable:
      return "unreadable";
    case ModuleState::kNotAFile:
      return "not-a-file";
  }
  return "unreadable";
}

const char* BestSource(const ModuleStatus& status) {
  if (status.has_dwarf) return "dwarf";
  if (status.has_gopclntab) return "go";
  if (status.has_symtab) return "symtab";
  if (status.has_dynsym) return "dynsym";
  return "none";
}

bool IsOfCupti(const ProcessHistory& history, const Node& node) {
  const auto module = history.modules.find(static_cast<uint32_t>(node.module));
  if (module == history.modules.end()) return false;
  const absl::string_view path = module->second.path;
  const absl::string_view name = path.substr(path.rfind('/') + 1);
  return absl::StartsWith(name, "libollamatrace-cupti.so") || absl::StartsWith(name, "libcupti.so");
}

}  // namespace

uint32_t FrameTable::Intern(ReportFrame frame) {
  // A line says where it is; without one, two calls in one function are told apart by their
  // offsets.
  const uint64_t offset = frame.line != 0 ? 0 : frame.offset;
  const auto [it, added] =
      ids_.try_emplace(Key{frame.function, frame.file, frame.line, frame.module, frame.build_id,
                           offset, frame.inlined},
                       static_cast<uint32_t>(frames_.size()));
  if (added) {
    frame.plumbing = IsPlumbing(frame.function, frame.module);
    frames_.push_back(std::move(frame));
  }
  return it->second;
}

const std::vector<uint32_t>& FrameTable::Name(size_t process, const ProcessHistory& history,
                                              uint32_t id, const Node& node) {
  const auto [it, added] = named_.try_emplace({process, id});
  std::vector<uint32_t>& frames = it->second;
  if (!added) return frames;
  ReportFrame frame;
  frame.offset = node.address;
  const auto module = history.modules.find(static_cast<uint32_t>(node.module));
  if (node.module == ModuleId{} || module == history.modules.end()) {
    frames.push_back(Intern(std::move(frame)));
    return frames;
  }
  const Module& loaded = module->second;
  frame.module = loaded.path;
  frame.build_id = absl::BytesToHexString(loaded.build_id);
  frame.offset = node.address - loaded.bias;
  const ModuleIndex index = symbols_.AddModule({loaded.path, loaded.build_id});
  modules_.try_emplace({loaded.path, frame.build_id}, index);
  const AddressKind kind = node.exact ? AddressKind::kExact : AddressKind::kReturn;
  for (const Frame& named : symbols_.Lookup(index, frame.offset, kind)) {
    frame.function = std::string(named.function);
    frame.file = std::string(named.file);
    frame.line = named.line;
    frame.inlined = named.inlined;
    frames.push_back(Intern(frame));
  }
  if (frames.empty()) frames.push_back(Intern(std::move(frame)));
  return frames;
}

uint32_t FrameTable::NamePlace(const GpuPlace& place) {
  ReportFrame frame;
  frame.function = place.function;
  frame.module = place.device == kNoDevice ? "[GPU" : absl::StrCat("[GPU ", place.device);
  if (place.context != 0) absl::StrAppend(&frame.module, ", context ", place.context);
  frame.module += "]";
  return Intern(std::move(frame));
}

std::vector<uint32_t> FrameTable::Expand(size_t process, const ProcessHistory& history,
                                         StackId stack) {
  std::vector<uint32_t> frames;
  uint32_t id = static_cast<uint32_t>(stack);
  bool through_cupti = false;
  for (uint32_t depth = 0; id != 0 && depth < kMaxStackDepth; ++depth) {
    const auto node = history.nodes.find(id);
    if (node == history.nodes.end()) break;
    id = static_cast<uint32_t>(node->second.parent);
    if (depth == 0) {
      if (const GpuPlace* const place = history.PlaceOf(node->second)) {
        frames.push_back(NamePlace(*place));
        through_cupti = true;
        continue;
      }
    }
    // The way from the driver to us is nobody's business.
    through_cupti = through_cupti && IsOfCupti(history, node->second);
    if (through_cupti) continue;
    const std::vector<uint32_t>& more = Name(process, history, node->first, node->second);
    frames.insert(frames.end(), more.begin(), more.end());
  }
  return frames;
}

std::vector<ReportModule> FrameTable::Modules() {
  std::vector<ReportModule> modules;
  for (const auto& [key, index] : modules_) {
    const ModuleStatus& status = symbols_.Status(index);
    const std::string source = BestSource(status);
    if (status.state == ModuleState::kOk && (source == "dwarf" || source == "go")) continue;
    modules.push_back({key.first, key.second, StateName(status.state), source, status.message});
  }
  return modules;
}

}  // namespace ollamatrace
