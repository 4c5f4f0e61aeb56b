#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "analyzer/export/export_names.h"
#include "analyzer/export/exporters.h"
#include "analyzer/export/profile.pb.h"
#include "analyzer/report/compressed_sink.h"

namespace ollamatrace {
namespace {

// protobuf's strings are UTF-8; names from a trace may be anything.
std::string Utf8(const std::string& text) {
  std::string clean;
  for (size_t i = 0; i < text.size();) {
    const unsigned char lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80                   ? 1
                          : lead >= 0xc2 && lead < 0xe0 ? 2
                          : lead >= 0xe0 && lead < 0xf0 ? 3
                          : lead >= 0xf0 && lead < 0xf5 ? 4
                                                        : 0;
    bool good = length != 0 && i + length <= text.size();
    for (size_t k = 1; good && k < length; ++k) {
      good = (static_cast<unsigned char>(text[i + k]) & 0xc0) == 0x80;
    }
    if (good) {
      clean.append(text, i, length);
      i += length;
    } else {
      clean += '?';
      ++i;
    }
  }
  return clean;
}

class Builder {
 public:
  explicit Builder(const Report& report) : report_(report) { String(""); }

  pprof::Profile Build() {
    const char* const kTypes[][2] = {{"alloc_objects", "count"},
                                     {"alloc_space", "bytes"},
                                     {"inuse_objects", "count"},
                                     {"inuse_space", "bytes"}};
    for (const auto& [type, unit] : kTypes) {
      pprof::ValueType* const made = profile_.add_sample_type();
      made->set_type(String(type));
      made->set_unit(String(unit));
    }
    profile_.set_default_sample_type(String("inuse_space"));
    profile_.set_time_nanos(static_cast<int64_t>(report_.start_wall_ns));
    profile_.set_duration_nanos(std::llround(report_.duration * 1e9));
    for (const ReportGroup& group : report_.groups) {
      if (CountsAsMemory(group)) AddSample(group);
    }
    FinishMappings();
    return std::move(profile_);
  }

 private:
  int64_t String(const std::string& text) {
    const auto [it, added] = strings_.try_emplace(text, profile_.string_table_size());
    if (added) profile_.add_string_table(Utf8(text));
    return it->second;
  }

  void AddLabel(const char* key, const std::string& value, pprof::Sample* sample) {
    if (value.empty()) return;
    pprof::Label* const label = sample->add_label();
    label->set_key(String(key));
    label->set_str(String(value));
  }

  void AddSample(const ReportGroup& group) {
    pprof::Sample* const sample = profile_.add_sample();
    for (const uint64_t value :
         {group.allocations, group.allocated_bytes, group.live_blocks, group.live_bytes}) {
      sample->add_value(static_cast<int64_t>(value));
    }
    // Inlined frames and the one that they are inlined into are one place in the code.
    std::vector<uint32_t> place;
    for (const uint32_t frame : group.frames) {
      place.push_back(frame);
      if (report_.frames[frame].inlined) continue;
      sample->add_location_id(Location(place));
      place.clear();
    }
    if (!place.empty()) sample->add_location_id(Location(place));
    AddLabel("process", ExportProcessName(report_, group), sample);
    AddLabel("thread", group.thread, sample);
    AddLabel("domain", group.mapping.empty() ? group.domain : group.domain + " " + group.mapping,
             sample);
    AddLabel("verdict", group.verdict, sample);
    if (group.processes.size() == 1) {
      pprof::Label* const pid = sample->add_label();
      pid->set_key(String("pid"));
      pid->set_num(report_.processes[group.processes.front()].pid);
    }
  }

  uint64_t Location(const std::vector<uint32_t>& place) {
    const auto [it, added] =
        locations_.try_emplace(place, static_cast<uint64_t>(profile_.location_size()) + 1);
    if (!added) return it->second;
    const ReportFrame& outer = report_.frames[place.back()];
    pprof::Location* const location = profile_.add_location();
    location->set_id(it->second);
    const uint64_t mapping = MappingOf(outer);
    location->set_mapping_id(mapping);
    location->set_address(mapping == 0 ? outer.offset : StartOf(mapping) + outer.offset);
    for (const uint32_t frame : place) {
      pprof::Line* const line = location->add_line();
      line->set_function_id(FunctionOf(report_.frames[frame]));
      line->set_line(report_.frames[frame].line);
    }
    return it->second;
  }

  uint64_t FunctionOf(const ReportFrame& frame) {
    const std::string name = ExportFrameName(frame);
    const auto [it, added] = functions_.try_emplace(
        {name, frame.file}, static_cast<uint64_t>(profile_.function_size()) + 1);
    if (added) {
      pprof::Function* const function = profile_.add_function();
      function->set_id(it->second);
      // No system name: pprof would take what stands in brackets out of an equal one.
      function->set_name(String(name));
      function->set_filename(String(frame.file));
    }
    return it->second;
  }

  // Addresses in the report are those of the module's file. The modules of a profile lie apart:
  // each has a terabyte of its own.
  static uint64_t StartOf(uint64_t mapping) { return mapping << 40; }

  uint64_t MappingOf(const ReportFrame& frame) {
    if (frame.module.empty()) return 0;
    const auto [it, added] = mappings_.try_emplace(
        {frame.module, frame.build_id}, static_cast<uint64_t>(profile_.mapping_size()) + 1);
    if (added) {
      pprof::Mapping* const mapping = profile_.add_mapping();
      mapping->set_id(it->second);
      mapping->set_memory_start(StartOf(it->second));
      mapping->set_filename(String(frame.module));
      mapping->set_build_id(String(frame.build_id));
      // Named already: pprof does not look for the files.
      mapping->set_has_functions(true);
      mapping->set_has_filenames(true);
      mapping->set_has_line_numbers(true);
      mapping->set_has_inline_frames(true);
    }
    return it->second;
  }

  void FinishMappings() {
    for (pprof::Mapping& mapping : *profile_.mutable_mapping()) {
      mapping.set_memory_limit(StartOf(mapping.id() + 1));
    }
  }

  const Report& report_;
  pprof::Profile profile_;
  absl::flat_hash_map<std::string, int64_t> strings_;
  std::map<std::vector<uint32_t>, uint64_t> locations_;
  std::map<std::pair<std::string, std::string>, uint64_t> functions_;
  std::map<std::pair<std::string, std::string>, uint64_t> mappings_;
};

}  // namespace

void ExportPprof(const Report& report, const OutputSink& sink) {
  CompressedSink packed(Compression::kGzip, sink);
  packed.Write(Builder(report).Build().SerializeAsString());
  packed.Finish();
}

}  // namespace ollamatrace
