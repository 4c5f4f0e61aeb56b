#include "formats/record_text.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace ollamatrace {
namespace {

template <typename Enum>
uint32_t Number(Enum value) {
  return static_cast<uint32_t>(value);
}

std::string Quoted(const Text& text) {
  return absl::StrCat("\"", absl::CHexEscape(absl::string_view(text.data, text.size)), "\"");
}

// "?" for a device that is not known.
std::string Device(uint32_t device) { return device == kNoDevice ? "?" : absl::StrCat(device); }

std::string Gauge(uint64_t value) { return value == kUnknownGauge ? "?" : absl::StrCat(value); }

std::string Address(uint64_t address) { return absl::StrCat("0x", absl::Hex(address)); }

}  // namespace

void RecordText::OnHeader(const HeaderRecord& record) {
  line_(absl::StrCat("header version=", record.version, " pid=", record.pid, " ppid=", record.ppid,
                     " start_ns=", record.start_ns, " wall_ns=", record.wall_ns,
                     " process_start=", record.process_start, " mode=", Number(record.mode),
                     " sample_bytes=", record.sample_bytes, " page_bytes=", record.page_bytes,
                     " segment=", record.segment, " born_by_fork=", record.born_by_fork) +
        absl::StrCat(" exe=", Quoted(record.exe), " argv=", Quoted(record.argv), " library=",
                     Quoted(record.library), " architecture=", Quoted(record.architecture),
                     " segment_ns=", record.segment_ns));
}

void RecordText::OnModule(const ModuleRecord& record) {
  const absl::string_view build_id(record.build_id.data, record.build_id.size);
  line_(absl::StrCat("module id=", Number(record.id), " t=", record.time_ns,
                     " bias=", Address(record.bias), " begin=", Address(record.begin),
                     " end=", Address(record.end), " build_id=", absl::BytesToHexString(build_id),
                     " path=", Quoted(record.path)));
}

void RecordText::OnModuleUnload(const ModuleUnloadRecord& record) {
  line_(absl::StrCat("module_unload id=", Number(record.id), " t=", record.time_ns));
}

void RecordText::OnThread(const ThreadRecord& record) {
  line_(absl::StrCat("thread id=", Number(record.id), " t=", record.time_ns, " tid=", record.tid,
                     " name=", Quoted(record.name)));
}

void RecordText::OnThreadEnd(const ThreadEndRecord& record) {
  line_(absl::StrCat("thread_end id=", Number(record.id), " t=", record.time_ns));
}

void RecordText::OnNode(const NodeRecord& record) {
  line_(absl::StrCat("node id=", Number(record.id), " parent=", Number(record.parent),
                     " module=", Number(record.module), " address=", Address(record.address),
                     " exact=", record.exact));
}

void RecordText::OnAlloc(const AllocRecord& record) {
  line_(absl::StrCat("alloc t=", record.time_ns, " thread=", Number(record.thread),
                     " domain=", Number(record.domain), " function=", Number(record.function),
                     " stack=", Number(record.stack), " address=", Address(record.address),
                     " size=", record.size));
}

void RecordText::OnFree(const FreeRecord& record) {
  line_(absl::StrCat("free t=", record.time_ns, " thread=", Number(record.thread),
                     " domain=", Number(record.domain), " address=", Address(record.address)));
}

void RecordText::OnMap(const MapRecord& record) {
  line_(absl::StrCat("map t=", record.time_ns, " thread=", Number(record.thread),
                     " function=", Number(record.function), " stack=", Number(record.stack),
                     " address=", Address(record.address), " length=", record.length,
                     " protection=", record.protection, " kind=", record.kind));
}

void RecordText::OnUnmap(const UnmapRecord& record) {
  line_(absl::StrCat("unmap t=", record.time_ns, " thread=", Number(record.thread),
                     " address=", Address(record.address), " length=", record.length));
}

void RecordText::OnCounters(const CountersRecord& record) {
  line_(absl::StrCat("counters stack=", Number(record.stack), " domain=", Number(record.domain),
                     " pairs=", record.pairs, " bytes=", record.bytes,
                     " lifetime_ns=", record.lifetime_ns, " peak_bytes=", record.peak_bytes,
                     " first_ns=", record.first_ns, " last_ns=", record.last_ns));
}

void RecordText::OnWeights(const WeightsRecord& record) {
  line_(absl::StrCat("weights stack=", Number(record.stack), " domain=", Number(record.domain),
                     " blocks=", record.blocks, " bytes=", record.bytes, " blocks_variance=",
                     record.blocks_variance, " bytes_variance=", record.bytes_variance));
}

void RecordText::OnSample(const SampleRecord& record) {
  std::string line = absl::StrCat("sample t=", record.time_ns);
  const auto gauge = [&line](absl::string_view name, uint64_t value) {
    absl::StrAppend(&line, " ", name, "=", Gauge(value));
  };
  gauge("rss_anon", record.rss_anon);
  gauge("rss_file", record.rss_file);
  gauge("rss_shmem", record.rss_shmem);
  gauge("swap", record.swap);
  gauge("arena", record.arena);
  gauge("mmapped", record.mmapped);
  gauge("in_use", record.in_use);
  gauge("retained", record.retained);
  gauge("trimmable", record.trimmable);
  gauge("open_files", record.open_files);
  gauge("sockets", record.sockets);
  gauge("threads", record.threads);
  gauge("pooled_bytes", record.pooled_bytes);
  gauge("pooled_blocks", record.pooled_blocks);
  gauge("pooled_peak_bytes", record.pooled_peak_bytes);
  gauge("tracer_cpu_ns", record.tracer_cpu_ns);
  gauge("tracer_bytes", record.tracer_bytes);
  gauge("written_bytes", record.written_bytes);
  gauge("mapped_bytes", record.mapped_bytes);
  line_(line);
}

void RecordText::OnMemoryMap(const MemoryMapRecord& record) {
  line_(absl::StrCat("memory_map t=", record.time_ns,
                     " body=", absl::BytesToHexString({record.body.data, record.body.size})));
}

void RecordText::OnLoss(const LossRecord& record) {
  line_(absl::StrCat("loss t=", record.time_ns, " kind=", Number(record.kind),
                     " events=", record.events));
}

void RecordText::OnMessage(const MessageRecord& record) {
  line_(absl::StrCat("message t=", record.time_ns, " text=", Quoted(record.text)));
}

void RecordText::OnGpuPlace(const GpuPlaceRecord& record) {
  line_(absl::StrCat("gpu_place id=", record.id, " device=", Device(record.device),
                     " context=", record.context, " stream=", record.stream,
                     " function=", Quoted(record.function)));
}

void RecordText::OnGpuCapture(const GpuCaptureRecord& record) {
  line_(absl::StrCat("gpu_capture t=", record.time_ns, " state=", Number(record.state),
                     " reason=", Quoted(record.reason), " where=", Quoted(record.where)));
}

void RecordText::OnGpuFailure(const GpuFailureRecord& record) {
  line_(absl::StrCat("gpu_failure t=", record.time_ns, " kind=", Number(record.kind),
                     " domain=", Number(record.domain), " status=", record.status,
                     " size=", record.size, " stack=", Number(record.stack)));
}

void RecordText::OnGpuImplicit(const GpuImplicitRecord& record) {
  line_(absl::StrCat("gpu_implicit t=", record.time_ns, " context=", record.context,
                     " domain=", Number(record.domain), " stack=", Number(record.stack),
                     " blocks=", record.blocks, " bytes=", record.bytes));
}

void RecordText::OnGpuLedger(const GpuLedgerRecord& record) {
  line_(absl::StrCat("gpu_ledger t=", record.time_ns, " device=", Device(record.device),
                     " domain=", Number(record.domain), " live_bytes=", record.live_bytes,
                     " live_blocks=", record.live_blocks, " peak_bytes=", record.peak_bytes));
}

void RecordText::OnGpuSample(const GpuSampleRecord& record) {
  line_(absl::StrCat("gpu_sample t=", record.time_ns, " device=", Device(record.device),
                     " process_bytes=", Gauge(record.process_bytes),
                     " used_bytes=", Gauge(record.used_bytes),
                     " total_bytes=", Gauge(record.total_bytes), " contexts=", record.contexts,
                     " modules=", record.modules, " module_bytes=", record.module_bytes));
}

void RecordText::OnEnd(const EndRecord& record) {
  line_(absl::StrCat("end t=", record.time_ns, " kind=", Number(record.kind)));
}

void RecordText::OnDropped(const DroppedRecord& record) {
  line_(absl::StrCat("dropped stack=", Number(record.stack), " domain=", Number(record.domain),
                     " pairs=", record.pairs, " bytes=", record.bytes,
                     " lifetime_ns=", record.lifetime_ns, " first_ns=", record.first_ns,
                     " last_ns=", record.last_ns) +
        absl::StrCat(" weight_blocks=", record.weight_blocks, " weight_bytes=", record.weight_bytes,
                     " weight_blocks_variance=", record.weight_blocks_variance,
                     " weight_bytes_variance=", record.weight_bytes_variance));
}

}  // namespace ollamatrace
