#ifndef OLLAMATRACE_PRELOAD_DRAIN_KEPT_SAMPLES_H_
#define OLLAMATRACE_PRELOAD_DRAIN_KEPT_SAMPLES_H_

// The samples of dropped segments, thinned: what is kept of the figures over time.
//
// A sample's pooled_bytes say how much was held beside what the records of blocks say at that
// moment. Once those are dropped, the sum has to be kept: written_bytes and mapped_bytes. They are
// added up from changes, each of which comes after a known number of samples.

#include <cstdint>

#include "formats/trace_format.h"

namespace ollamatrace {

class KeptSamples {
 public:
  // Of the segments; when there are more, pairs of neighbours become one.
  static constexpr uint32_t kMaxNew = 1024;
  // Of the checkpoint before. It has at most kMaxWritten, unless somebody else wrote it.
  static constexpr uint32_t kMaxOld = 2048;
  static constexpr uint32_t kMaxWritten = 1024 + 2;
  struct Kept {
    SampleRecord sample;
    uint64_t written_change;  // since the one before it, modulo 2^64
    uint64_t mapped_change;
  };

  // Zeroed memory: kMaxNew + 1, kMaxOld.
  void Init(Kept* kept, SampleRecord* old) {
    kept_ = kept;
    old_ = old;
    kept_count_ = old_count_ = 0;
    shift_ = 0;
  }

  void AddOld(const SampleRecord& sample) {
    if (old_count_ < kMaxOld) old_[old_count_++] = sample;
  }
  // Sample number `number` of the segments, from 0.
  void AddNew(uint32_t number, const SampleRecord& sample) {
    MakeRoom(number);
    Kept* const kept = &kept_[number >> shift_];
    if (number >> shift_ < kept_count_) {
      Merge(&kept->sample, sample);
    } else {
      kept->sample = sample;
      kept_count_ = (number >> shift_) + 1;
    }
  }
  // Changes between sample number - 1 and sample `number`, which may not come any more.
  void ChangeWritten(uint32_t number, uint64_t by) {
    MakeRoom(number);
    kept_[number >> shift_].written_change += by;
  }
  void ChangeMapped(uint32_t number, uint64_t by) {
    MakeRoom(number);
    kept_[number >> shift_].mapped_change += by;
  }

  // Adds the changes up, from what was written and mapped where the segments begin.
  void Settle(uint64_t written_bytes, uint64_t mapped_bytes) {
    for (uint32_t i = 0; i < kept_count_; ++i) {
      kept_[i].sample.written_bytes = written_bytes += kept_[i].written_change;
      kept_[i].sample.mapped_bytes = mapped_bytes += kept_[i].mapped_change;
    }
  }

  // All of them, by time; after Settle. *next is 0 at first. False: that was the last.
  bool Next(uint32_t* next, SampleRecord* sample) const {
    const uint32_t count = old_count_ + kept_count_;
    if (*next >= count) return false;
    // One of each so much time: the last one.
    const uint64_t first = At(0).time_ns;
    const uint64_t last = At(count - 1).time_ns;
    const uint64_t width = last > first ? (last - first) / 1024 + 1 : 1;
    const auto slot = [&](uint32_t i) {
      return At(i).time_ns > first ? (At(i).time_ns - first) / width : 0;
    };
    *sample = At((*next)++);
    while (*next < count && slot(*next) == slot(*next - 1)) Merge(sample, At((*next)++));
    return true;
  }

 private:
  const SampleRecord& At(uint32_t index) const {
    return index < old_count_ ? old_[index] : kept_[index - old_count_].sample;
  }
  // The later of two neighbours stands for both.
  static void Merge(SampleRecord* sample, const SampleRecord& later) {
    const uint64_t peak = sample->pooled_peak_bytes;
    *sample = later;
    if (peak != kUnknownGauge && peak > later.pooled_peak_bytes) sample->pooled_peak_bytes = peak;
  }
  // So that `number` has a place among kMaxNew + 1.
  void MakeRoom(uint32_t number) {
    while (number >> shift_ > kMaxNew) {
      for (uint32_t i = 0; i <= kMaxNew; ++i) {
        Kept kept = {};
        if (2 * i <= kMaxNew) kept = kept_[2 * i];
        if (2 * i + 1 <= kMaxNew) {
          const Kept& later = kept_[2 * i + 1];
          if (2 * i + 1 < kept_count_) Merge(&kept.sample, later.sample);
          kept.written_change += later.written_change;
          kept.mapped_change += later.mapped_change;
        }
        kept_[i] = kept;
      }
      kept_count_ = (kept_count_ + 1) / 2;
      ++shift_;
    }
  }

  Kept* kept_;
  SampleRecord* old_;
  uint32_t kept_count_, old_count_;
  uint32_t shift_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_KEPT_SAMPLES_H_
