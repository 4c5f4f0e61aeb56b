#include "analyzer/report/memory_json.h"

#include <cmath>

namespace ollamatrace {
namespace {

using Json = nlohmann::ordered_json;

double Micros(double seconds) { return std::round(seconds * 1e6) / 1e6; }

// One array a cell: held, used, index of the pin or null.
Json HeapMapJson(const ReportHeap& heap) {
  if (heap.cells.empty()) return nullptr;
  Json cells = Json::array();
  for (const ReportHeapCell& cell : heap.cells) {
    cells.push_back({cell.held, cell.used, cell.pin ? Json(*cell.pin) : Json(nullptr)});
  }
  return {{"cell_bytes", heap.cell_bytes}, {"cells", cells}};
}

Json HeapJson(const ReportHeap& heap) {
  return {{"name", heap.name},
          {"size", heap.size},
          {"held", heap.held},
          {"live_bytes", heap.live_bytes},
          {"live_blocks", heap.live_blocks},
          {"free_held", heap.free_held},
          {"largest_free_run", heap.largest_free_run},
          {"free_at_end", heap.free_at_end},
          {"trimmable", heap.trimmable},
          {"pinned", heap.pinned},
          {"pages_by_use", heap.pages},
          {"map", HeapMapJson(heap)}};
}

Json PinJson(const Report& report, const ReportPin& pin) {
  Json frames = Json::array();
  for (const uint32_t index : pin.frames) {
    const ReportFrame& frame = report.frames[index];
    frames.push_back({{"function", frame.function.empty() ? Json(nullptr) : Json(frame.function)},
                      {"file", frame.file.empty() ? Json(nullptr) : Json(frame.file)},
                      {"line", frame.line == 0 ? Json(nullptr) : Json(frame.line)},
                      {"module", frame.module.empty() ? Json(nullptr) : Json(frame.module)},
                      {"offset", frame.offset},
                      {"inlined", frame.inlined}});
  }
  return {{"blocks", pin.blocks},
          {"bytes", pin.bytes},
          {"pages", pin.pages},
          {"pinned", pin.pinned},
          {"released", pin.released},
          {"blamed_frame", pin.frames.empty() ? Json(nullptr) : Json(pin.blamed_frame)},
          {"frames", frames}};
}

}  // namespace

Json AccountingJson(const ReportMemory& memory) {
  if (!memory.accounting) return nullptr;
  Json rows = Json::array();
  for (const ReportAccountRow& row : memory.accounting->rows) {
    Json parts = Json::array();
    for (const ReportAccountPart& part : row.parts) {
      parts.push_back({{"name", part.name}, {"bytes", part.bytes}});
    }
    rows.push_back({{"id", row.id},
                    {"name", row.name},
                    {"bytes", row.bytes},
                    {"how", row.how},
                    {"parts", parts}});
  }
  return {
      {"at", Micros(memory.accounting->at)}, {"total", memory.accounting->total}, {"rows", rows}};
}

Json MappedFilesJson(const ReportMemory& memory) {
  if (!memory.accounting) return nullptr;
  Json files = Json::array();
  for (const ReportAccountFile& file : memory.accounting->files) {
    files.push_back({{"path", file.path},
                     {"rss", file.rss},
                     {"shared", file.shared},
                     {"kind", file.shmem ? "shmem" : "file"}});
  }
  return files;
}

Json FragmentationJson(const Report& report) {
  if (report.fragmentation.empty()) return nullptr;
  Json host = Json::array();
  for (const ReportFragmentation& one : report.fragmentation) {
    Json heaps = Json::array(), pins = Json::array();
    for (const ReportHeap& heap : one.heaps) heaps.push_back(HeapJson(heap));
    for (const ReportPin& pin : one.pins) pins.push_back(PinJson(report, pin));
    host.push_back({{"process", one.process},
                    {"pid", report.processes[one.process].pid},
                    {"at", Micros(one.at)},
                    {"exact", one.exact},
                    {"held", one.held},
                    {"live_bytes", one.live_bytes},
                    {"free_held", one.free_held},
                    {"trimmable", one.trimmable},
                    {"pinned", one.pinned},
                    {"released_by_all", one.released_by_all},
                    {"heaps", heaps},
                    {"pins", pins}});
  }
  return {{"host", host}, {"gpu", nullptr}};
}

}  // namespace ollamatrace
