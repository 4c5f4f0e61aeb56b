#include "analyzer/replay/sample_estimator.h"

#include <algorithm>
#include <cmath>

namespace ollamatrace {
namespace {

uint64_t Rounded(double value) {
  if (!(value > 0)) return 0;
  return value < 0x1p63 ? static_cast<uint64_t>(std::llround(value)) : ~uint64_t{0};
}

}  // namespace

void SampleEstimator::Sum::Add(const Sum& other, double times) {
  blocks += times * other.blocks;
  bytes += times * other.bytes;
  blocks_variance += times * other.blocks_variance;
  bytes_variance += times * other.bytes_variance;
}

SampleEstimator::Sum SampleEstimator::SumOf(uint64_t size) const {
  const double chance = SampleChance(size, sample_bytes_);
  const double bytes = static_cast<double>(size) / chance;
  return {1 / chance, bytes, (1 - chance) / chance / chance, bytes * bytes * (1 - chance)};
}

SampleEstimator::Sum SampleEstimator::SumOf(const WeightsRecord& weights) const {
  const double mean = static_cast<double>(sample_bytes_);
  return {
      static_cast<double>(weights.blocks) / SampleWeight::kOneBlock,
      static_cast<double>(weights.bytes),
      static_cast<double>(weights.blocks_variance) / SampleWeight::kOneBlockVariance,
      static_cast<double>(weights.bytes_variance) / SampleWeight::kOneBytesVariance * mean * mean};
}

void SampleEstimator::Remove(const Block& block) {
  const Sum sum = SumOf(block.size);
  total_.died.Add(sum, 1);
  if (block.counted) tallies_[block.key].died.Add(sum, 1);
}

void SampleEstimator::OnAlloc(const AllocRecord& alloc, const StackKey* key) {
  const auto [it, added] = blocks_.try_emplace(alloc.address);
  if (!added) Remove(it->second);
  it->second = {alloc.size, key != nullptr, key != nullptr ? *key : StackKey{}};
  const Sum sum = SumOf(alloc.size);
  total_.born.Add(sum, 1);
  if (key != nullptr) tallies_[*key].born.Add(sum, 1);
}

void SampleEstimator::OnFree(uint64_t address) {
  const auto it = blocks_.find(address);
  if (it == blocks_.end()) return;
  Remove(it->second);
  blocks_.erase(it);
}

void SampleEstimator::OnWeights(const WeightsRecord& weights, bool before) {
  Folded& folded = folded_[static_cast<uint32_t>(weights.stack)];
  if (before) folded.before = weights;
  folded.now = weights;
}

void SampleEstimator::OnDropped(const DroppedRecord& dropped, bool before) {
  const Sum sum = SumOf({dropped.stack, dropped.domain, dropped.weight_blocks, dropped.weight_bytes,
                         dropped.weight_blocks_variance, dropped.weight_bytes_variance});
  total_.folded.Add(sum, 1);
  if (!before) tallies_[{dropped.stack, ThreadId{}, Domain::kHeap}].folded.Add(sum, 1);
}

void SampleEstimator::Apply(ProcessHistory& history) const {
  absl::flat_hash_map<StackKey, Tally> tallies = tallies_;
  Tally total = total_;
  for (const auto& [stack, folded] : folded_) {
    Sum sum = SumOf(folded.now);
    total.folded.Add(sum, 1);
    sum.Add(SumOf(folded.before), -1);
    tallies[{StackId{stack}, ThreadId{}, Domain::kHeap}].folded.Add(sum, 1);
  }
  // What is live is summed anew: no rounding is left of what was taken off.
  struct Live {
    Sum sum;
    uint64_t drawn = 0;
    uint64_t smallest = kNever;
    uint64_t largest = 0;

    void Add(uint64_t size, const Sum& other) {
      sum.Add(other, 1);
      ++drawn;
      smallest = std::min(smallest, size);
      largest = std::max(largest, size);
    }
  };
  absl::flat_hash_map<StackKey, Live> lives;
  Live total_live;
  for (const auto& [address, block] : blocks_) {
    const Sum sum = SumOf(block.size);
    total_live.Add(block.size, sum);
    if (block.counted) lives[block.key].Add(block.size, sum);
  }
  const auto fill = [](const Tally& tally, const Live& live, auto& figures) {
    figures.live_blocks = Rounded(live.sum.blocks);
    figures.allocations = Rounded(tally.born.blocks + tally.folded.blocks);
    figures.frees = Rounded(tally.died.blocks + tally.folded.blocks);
    figures.bytes = Rounded(tally.born.bytes + tally.folded.bytes);
    figures.variances = {live.sum.bytes_variance, live.sum.blocks_variance,
                         tally.born.blocks_variance + tally.folded.blocks_variance,
                         tally.died.blocks_variance + tally.folded.blocks_variance};
    figures.live_drawn = live.drawn;
  };
  for (auto& [key, stats] : history.stacks) {
    if (key.domain != Domain::kHeap) continue;
    const auto tally = tallies.find(key);
    const auto live = lives.find(key);
    const Live none;
    const Live& of_key = live == lives.end() ? none : live->second;
    fill(tally == tallies.end() ? Tally{} : tally->second, of_key, stats);
    stats.smallest = of_key.smallest;
    stats.largest = of_key.largest;
  }
  const auto heap = history.totals.find({Domain::kHeap, MappingClass::kAnonymous});
  if (heap != history.totals.end()) fill(total, total_live, heap->second);
}

}  // namespace ollamatrace
