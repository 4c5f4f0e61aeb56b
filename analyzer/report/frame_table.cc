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

bool IsOfCupti(absl::string_view path) {
  const absl::string_view name = path.substr(path.rfind('/') + 1);
  return absl::StartsWith(name, "libollamatrace-cupti.so") || absl::StartsWith(name, "libcupti.so");
}

}  // namespace

// A line says where it is; without one, two calls in one function are told apart by their offsets.
FrameTable::Key FrameTable::KeyOf(const ReportFrame& frame) {
  return {frame.function, frame.file,     frame.line,
          frame.module,   frame.build_id, frame.line != 0 ? 0 : frame.offset,
          frame.inlined};
}

uint32_t FrameTable::Intern(ReportFrame frame) {
  const auto found = ids_.find(frame);
  if (found != ids_.end()) return *found;
  const uint32_t id = static_cast<uint32_t>(frames_.size());
  frame.plumbing = IsPlumbing(frame.function, frame.module);
  frames_.push_back(std::move(frame));
  ids_.insert(id);
  return id;
}

const FrameTable::LoadedModule* FrameTable::ModuleOf(Process& process,
                                                     const ProcessHistory& history, ModuleId id) {
  const uint32_t number = static_cast<uint32_t>(id);
  const auto known = process.modules.find(number);
  if (known != process.modules.end()) return &known->second;
  const auto module = history.modules.find(number);
  if (id == ModuleId{} || module == history.modules.end()) return nullptr;
  const Module& loaded = module->second;
  LoadedModule answer;
  answer.build_id = absl::BytesToHexString(loaded.build_id);
  answer.index = symbols_.AddModule({loaded.path, loaded.build_id});
  answer.of_cupti = IsOfCupti(loaded.path);
  return &process.modules.emplace(number, std::move(answer)).first->second;
}

absl::Span<const uint32_t> FrameTable::Name(Process& process, const ProcessHistory& history,
                                            StackNodes::Place number) {
  if (number >= process.places.size()) process.places.resize(history.nodes.places());
  Place& place = process.places[number];
  if (place.count != 0) {
    return absl::MakeConstSpan(frames_of_places_).subspan(place.begin, place.count);
  }
  const Node& node = history.nodes.place(number);
  place.begin = static_cast<uint32_t>(frames_of_places_.size());
  ReportFrame frame;
  frame.offset = node.address;
  if (const LoadedModule* const module = ModuleOf(process, history, node.module)) {
    const Module& loaded = history.modules.find(static_cast<uint32_t>(node.module))->second;
    frame.module = loaded.path;
    frame.build_id = module->build_id;
    frame.offset = node.address - loaded.bias;
    modules_.try_emplace({loaded.path, frame.build_id}, module->index);
    const AddressKind kind = node.exact ? AddressKind::kExact : AddressKind::kReturn;
    for (const Frame& named : symbols_.Lookup(module->index, frame.offset, kind)) {
      frame.function = std::string(named.function);
      frame.file = std::string(named.file);
      frame.line = named.line;
      frame.inlined = named.inlined;
      frames_of_places_.push_back(Intern(frame));
    }
  }
  if (frames_of_places_.size() == place.begin) {
    frames_of_places_.push_back(Intern(std::move(frame)));
  }
  place.count = static_cast<uint32_t>(frames_of_places_.size()) - place.begin;
  return absl::MakeConstSpan(frames_of_places_).subspan(place.begin, place.count);
}

uint32_t FrameTable::NameOf(const GpuPlace& place) {
  ReportFrame frame;
  frame.function = place.function;
  frame.module = place.device == kNoDevice ? "[GPU" : absl::StrCat("[GPU ", place.device);
  if (place.context != 0) absl::StrAppend(&frame.module, ", context ", place.context);
  frame.module += "]";
  return Intern(std::move(frame));
}

FrameTable::Path FrameTable::Extend(Path outer, absl::Span<const uint32_t> frames) {
  for (size_t i = frames.size(); i-- > 0;) outer = paths_.Extend(outer, frames[i]);
  return outer;
}

FrameTable::Path FrameTable::WalkAll(Process& process, const ProcessHistory& history,
                                     StackId stack) {
  std::vector<uint32_t> frames;
  bool through_cupti = false;
  for (uint32_t depth = 0; stack != StackId{} && depth < kMaxStackDepth; ++depth) {
    if (!history.nodes.Contains(stack)) break;
    const StackNodes::Place place = history.nodes.PlaceOf(stack);
    const Node& node = history.nodes.place(place);
    stack = history.nodes.ParentOf(stack);
    if (depth == 0) {
      if (const GpuPlace* const gpu = history.PlaceOf(node)) {
        frames.push_back(NameOf(*gpu));
        through_cupti = true;
        continue;
      }
    }
    // The way from the driver to us is nobody's business.
    if (through_cupti) {
      const LoadedModule* const module = ModuleOf(process, history, node.module);
      through_cupti = module != nullptr && module->of_cupti;
      if (through_cupti) continue;
    }
    const absl::Span<const uint32_t> more = Name(process, history, place);
    frames.insert(frames.end(), more.begin(), more.end());
  }
  return Extend(FramePaths::kEmpty, frames);
}

FrameTable::Process& FrameTable::At(size_t index, const ProcessHistory& history) {
  while (index >= processes_.size()) processes_.emplace_back();
  Process& process = processes_[index];
  if (process.paths.size() < history.nodes.dense_ids()) {
    process.paths.resize(history.nodes.dense_ids());
    process.depths.resize(history.nodes.dense_ids());
  }
  return process;
}

FrameTable::Path FrameTable::PathOf(size_t index, const ProcessHistory& history, StackId stack) {
  Process& process = At(index, history);
  const StackNodes& nodes = history.nodes;
  if (!nodes.Contains(stack)) return FramePaths::kEmpty;
  // Most of a stack is another one's, too: named up to there, from the innermost on.
  if (history.PlaceOf(nodes.place(nodes.PlaceOf(stack))) != nullptr) {
    return WalkAll(process, history, stack);
  }
  walk_.clear();
  StackId id = stack;
  Path path = FramePaths::kEmpty;
  uint32_t depth = 0;
  while (id != StackId{} && nodes.Contains(id)) {
    const uint32_t number = static_cast<uint32_t>(id);
    if (walk_.size() == kMaxStackDepth || number >= process.paths.size()) {
      return WalkAll(process, history, stack);
    }
    if (process.depths[number] != 0) {
      path = process.paths[number];
      depth = process.depths[number];
      break;
    }
    walk_.push_back(id);
    id = nodes.ParentOf(id);
  }
  if (walk_.size() + depth > kMaxStackDepth) return WalkAll(process, history, stack);
  for (const StackId named : walk_) Name(process, history, nodes.PlaceOf(named));
  for (size_t i = walk_.size(); i-- > 0;) {
    const uint32_t number = static_cast<uint32_t>(walk_[i]);
    path = Extend(path, Name(process, history, nodes.PlaceOf(walk_[i])));
    process.paths[number] = path;
    process.depths[number] = static_cast<uint16_t>(++depth);
  }
  return path;
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
