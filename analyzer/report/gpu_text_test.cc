#include "analyzer/report/gpu_text.h"

#include "analyzer/report/gpu_json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using testing::ElementsAre;

ReportGpuLedger Ledger(const char* domain, uint64_t live, uint64_t blocks, bool memory = true) {
  ReportGpuLedger one;
  one.device = 0;
  one.domain = domain;
  one.memory = memory;
  one.live_bytes = live;
  one.live_blocks = blocks;
  one.peak_bytes = 2 * live;
  one.allocations = blocks + 1;
  one.frees = 1;
  return one;
}

ReportProcess Example() {
  ReportProcess process;
  process.name = "server";
  process.pid = 7;
  ReportGpu& gpu = process.gpu;
  gpu.capture = "active";
  gpu.where = "/lib/libcupti.so.13";
  gpu.live_bytes = 13 << 20;
  gpu.ledgers = {Ledger("device", 3 << 20, 1), Ledger("virtual", 10 << 20, 2),
                 Ledger("mapped", 10 << 20, 2, false),
                 Ledger("address-space", uint64_t{32} << 30, 1, false)};
  gpu.ledgers[0].rounding_bytes = 1 << 20;
  gpu.ledgers[0].implicitly_freed_blocks = 2;
  gpu.ledgers[0].implicitly_freed_bytes = 5 << 10;
  ReportGpuDevice device;
  device.device = 0;
  device.samples = 60;
  device.total = uint64_t{80} << 30;
  device.used = uint64_t{2} << 30;
  device.process = uint64_t{1} << 30;
  device.traced = 13 << 20;
  device.residual = {.first = 300 << 20, .last = 1011 << 20, .seconds = 59, .per_hour = 1 << 20};
  device.residual->stages = {{"context", 1, 300 << 20}, {"graphs", 9, 711 << 20}};
  gpu.devices = {device};
  gpu.failed_allocations = 2;
  ReportGpuFailure failure;
  failure.at = 3;
  failure.kind = "allocation";
  failure.function = "cuMemAlloc_v2";
  failure.device = 0;
  failure.domain = "device";
  failure.status = 2;
  failure.size = uint64_t{1} << 30;
  failure.free_bytes = uint64_t{78} << 30;
  gpu.failures = {failure, failure};
  gpu.failures[1].free_bytes = 1000;
  return process;
}

TEST(GpuText, AllThereIsToSay) {
  EXPECT_THAT(
      GpuText(Example()),
      ElementsAre(
          "GPU memory of server [7]: 13.0 MiB live; capture active by /lib/libcupti.so.13",
          "  GPU                      LIVE     BLOCKS       PEAK  ALLOCATED      FREED  ENDED WITH "
          "CONTEXT",
          "    0 device            3.0 MiB          1    6.0 MiB          2          1  5.0 KiB in "
          "2",
          "    0 virtual          10.0 MiB          2   20.0 MiB          3          1  ",
          "      no memory of their own:",
          "    0 mapped           10.0 MiB          2   20.0 MiB          3          1  ",
          "    0 address-space    32.0 GiB          1   64.0 GiB          2          1  ",
          "  Virtual memory management: 10.0 MiB physical, 10.0 MiB mapped, 32.0 GiB of addresses "
          "reserved",
          "  GPU 0: 1.0 MiB more where cudaMalloc rounds to pages of 2 MiB (estimated)",
          "  GPU 0 by NVML: 2.0 GiB of 80.0 GiB in use, 1.0 GiB by this process, 13.0 MiB of it "
          "traced",
          "    not traced (no leak by itself): 1011.0 MiB, at first 300.0 MiB, +1.0 MiB per hour",
          "      came: 300.0 MiB with the context, 711.0 MiB with executable graphs",
          "  Failed: 2 allocations, 0 frees",
          "    3.00 s  cuMemAlloc_v2 of 1.0 GiB on GPU 0: CUDA error 2, 78.0 GiB were free: "
          "fragmented, or another's limit",
          "    3.00 s  cuMemAlloc_v2 of 1.0 GiB on GPU 0: CUDA error 2, 1000 B were free"));
}

// What "where" then says is where something was looked for; the report's notes have it.
TEST(GpuText, APartialCaptureIsNobodys) {
  ReportProcess process = Example();
  process.gpu.capture = "partial";
  EXPECT_EQ(GpuText(process).front(), "GPU memory of server [7]: 13.0 MiB live; capture partial");
}

TEST(GpuJson, DevicesLedgersAndFailures) {
  const ReportGpu gpu = Example().gpu;
  EXPECT_EQ(GpuDevicesJson(gpu).dump(),
            R"([{"device":0,"samples":60,"total_bytes":85899345920,"used_bytes":2147483648,)"
            R"("process_bytes":1073741824,"traced_bytes":13631488,"module_bytes":0,"residual":)"
            R"({"first":314572800,"last":1060110336,"bytes_per_hour":1048576.0,)"
            R"("bytes_per_hour_low":0.0,"bytes_per_hour_high":0.0,"stages":[{"stage":"context",)"
            R"("count":1,"bytes":314572800},{"stage":"graphs","count":9,"bytes":745537536}]}}])");
  EXPECT_EQ(GpuLedgersJson(gpu)[0].dump(),
            R"({"device":0,"domain":"device","memory":true,"live_bytes":3145728,"live_blocks":1,)"
            R"("peak_bytes":6291456,"allocations":2,"frees":1,"implicitly_freed":{"blocks":2,)"
            R"("bytes":5120},"rounding_bytes":1048576})");
  const auto failure = GpuCaptureJson(gpu)["failures"][0];
  EXPECT_EQ(failure["free_bytes"], uint64_t{78} << 30);
  EXPECT_EQ(failure["size"], uint64_t{1} << 30);
}

}  // namespace
}  // namespace ollamatrace
