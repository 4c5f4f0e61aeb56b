// Mode sample: from the blocks that were drawn to estimates of what all blocks add up to.
#ifndef OLLAMATRACE_ANALYZER_REPLAY_SAMPLE_ESTIMATOR_H_
#define OLLAMATRACE_ANALYZER_REPLAY_SAMPLE_ESTIMATOR_H_

#include <cstdint>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "analyzer/replay/process_history.h"
#include "formats/sample_weight.h"
#include "formats/trace_format.h"

namespace ollamatrace {

// Goes beside a replay, which sums bytes: the replay counts a block with Bytes() of its size, and
// in the end Apply replaces the counts of blocks and adds the variances. Only the heap is sampled.
// Trusts no record. Thread-compatible. Memory: proportional to live blocks and stacks.
class SampleEstimator {
 public:
  // `sample_bytes` as in the header, not 0.
  explicit SampleEstimator(uint64_t sample_bytes) : sample_bytes_(sample_bytes) {}

  // What a block of this size stands for.
  uint64_t Bytes(uint64_t size) const { return WeightOf(size, sample_bytes_).bytes; }

  // Records of domain heap. `key`: the stack that the block counts for; nullptr for none (it was
  // allocated before the window).
  void OnAlloc(const AllocRecord& alloc, const StackKey* key);
  void OnFree(uint64_t address);
  // `before`: of the time before the window.
  void OnWeights(const WeightsRecord& weights, bool before);
  void OnDropped(const DroppedRecord& dropped, bool before);

  // Puts the estimates into the stacks and the totals of the heap.
  void Apply(ProcessHistory& history) const;

 private:
  // Sums over blocks that were drawn: of 1/P, X/P and their variances.
  struct Sum {
    double blocks = 0;
    double bytes = 0;
    double blocks_variance = 0;
    double bytes_variance = 0;

    void Add(const Sum& other, double times);
  };
  struct Tally {
    Sum born, died, folded;
  };
  struct Block {
    uint64_t size = 0;
    bool counted = false;
    StackKey key;
  };
  struct Folded {
    WeightsRecord before, now;
  };

  Sum SumOf(uint64_t size) const;
  Sum SumOf(const WeightsRecord& weights) const;
  void Remove(const Block& block);

  const uint64_t sample_bytes_;
  absl::flat_hash_map<uint64_t, Block> blocks_;  // live, by address
  absl::flat_hash_map<StackKey, Tally> tallies_;
  absl::flat_hash_map<uint32_t, Folded> folded_;  // by stack
  Tally total_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPLAY_SAMPLE_ESTIMATOR_H_
