#ifndef OLLAMATRACE_PRELOAD_DRAIN_KEPT_GPU_H_
#define OLLAMATRACE_PRELOAD_DRAIN_KEPT_GPU_H_

// Of dropped segments, the figures of devices: each ledger's last one, and thinned samples.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "formats/encode.h"

namespace ollamatrace {

class KeptGpu {
 public:
  static constexpr uint32_t kMaxLedgers = 512;  // domains and devices
  static constexpr uint32_t kMaxSamples = 4096;
  static constexpr uint32_t kMaxWritten = 1024;
  struct Kept {
    uint64_t time_ns;
    uint32_t of;  // a device, and the domain of a ledger
    uint32_t size;
    uint8_t record[kGpuRecordBytes];
  };

  // Zeroed memory: kMaxLedgers, kMaxSamples.
  void Init(Kept* ledgers, Kept* samples) {
    ledgers_ = ledgers;
    samples_ = samples;
    ledger_count_ = sample_count_ = 0;
  }

  // Encoded records, in any order. `device` as it is written.
  void Ledger(uint64_t time_ns, uint32_t device, uint8_t domain, const uint8_t* record,
              size_t size) {
    const uint32_t of = device << 8 | domain;
    uint32_t i = 0;
    while (i < ledger_count_ && ledgers_[i].of != of) ++i;
    if (i == kMaxLedgers) return;
    if (i == ledger_count_) {
      ++ledger_count_;
    } else if (ledgers_[i].time_ns > time_ns) {
      return;
    }
    Set(&ledgers_[i], time_ns, of, record, size);
  }
  void Sample(uint64_t time_ns, uint32_t device, const uint8_t* record, size_t size) {
    if (sample_count_ == kMaxSamples) Thin();
    if (sample_count_ < kMaxSamples) {
      Set(&samples_[sample_count_++], time_ns, device, record, size);
    }
  }

  // To be called before the ones below.
  void Settle() {
    for (uint32_t before = 0; sample_count_ > kMaxWritten && sample_count_ != before;) {
      before = sample_count_;
      Thin();
    }
    std::sort(samples_, samples_ + sample_count_,
              [](const Kept& a, const Kept& b) { return a.time_ns < b.time_ns; });
  }
  uint32_t count() const { return ledger_count_ + sample_count_; }
  const Kept& kept(uint32_t index) const {
    return index < ledger_count_ ? ledgers_[index] : samples_[index - ledger_count_];
  }

 private:
  static void Set(Kept* kept, uint64_t time_ns, uint32_t of, const uint8_t* record, size_t size) {
    if (size > sizeof kept->record) size = 0;
    kept->time_ns = time_ns;
    kept->of = of;
    kept->size = static_cast<uint32_t>(size);
    memcpy(kept->record, record, size);
  }
  // Every second one of each device.
  void Thin() {
    std::sort(samples_, samples_ + sample_count_, [](const Kept& a, const Kept& b) {
      return a.of != b.of ? a.of < b.of : a.time_ns < b.time_ns;
    });
    uint32_t kept = 0, of_device = 0, device = 0;
    for (uint32_t i = 0; i < sample_count_; ++i) {
      of_device = i > 0 && samples_[i].of == device ? of_device + 1 : 0;
      device = samples_[i].of;
      if (of_device % 2 == 0) samples_[kept++] = samples_[i];
    }
    sample_count_ = kept;
  }

  Kept* ledgers_;
  Kept* samples_;
  uint32_t ledger_count_, sample_count_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_KEPT_GPU_H_
