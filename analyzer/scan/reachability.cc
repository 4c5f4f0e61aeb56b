#include "analyzer/scan/reachability.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace ollamatrace {
namespace {

class Marking {
 public:
  Marking(absl::Span<const ScanBlock> blocks, const WordReader& read)
      : blocks_(blocks), read_(read), reach_(blocks.size(), Reach::kDefinitelyLost) {
    addresses_.reserve(blocks.size());
    for (const ScanBlock& block : blocks) addresses_.push_back(block.address);
    if (!blocks.empty()) {
      low_ = blocks.front().address;
      high_ = blocks.back().address + std::max<uint64_t>(blocks.back().size, 1);
    }
  }

  std::vector<Reach> Run(absl::Span<const RootRange> roots, absl::Span<const uint64_t> registers) {
    for (const uint64_t word : registers) FromReachable(word, false);
    for (const RootRange& root : roots) {
      Words(root.begin, root.end, [&](uint64_t word) { FromReachable(word, root.exact_only); });
      Spread();
    }
    Spread();
    SpreadPossible();
    MarkLost();
    return std::move(reach_);
  }

 private:
  static constexpr size_t kNone = ~size_t{0};

  // The block that `word` points into, or kNone.
  size_t Find(uint64_t word) const {
    if (word < low_ || word >= high_) return kNone;
    const size_t next = static_cast<size_t>(
        std::upper_bound(addresses_.begin(), addresses_.end(), word) - addresses_.begin());
    const ScanBlock& block = blocks_[next - 1];  // low_ is at or below the word
    return word - block.address < std::max<uint64_t>(block.size, 1) ? next - 1 : kNone;
  }

  template <typename Visit>
  void Words(uint64_t begin, uint64_t end, const Visit& visit) const {
    read_((begin + 7) & ~uint64_t{7}, end & ~uint64_t{7}, [&](absl::Span<const uint64_t> words) {
      for (const uint64_t word : words) {
        if (word - low_ < high_ - low_) visit(word);
      }
    });
  }
  template <typename Visit>
  void WordsOf(size_t block, const Visit& visit) const {
    Words(blocks_[block].address, blocks_[block].address + blocks_[block].size, visit);
  }

  void FromReachable(uint64_t word, bool exact_only) {
    const size_t block = Find(word);
    if (block == kNone || reach_[block] == Reach::kReachable) return;
    if (word == addresses_[block]) {
      reach_[block] = Reach::kReachable;
      reachable_.push_back(block);
    } else if (!exact_only && reach_[block] == Reach::kDefinitelyLost) {
      reach_[block] = Reach::kPossiblyLost;
      possible_.push_back(block);
    }
  }

  void Spread() {
    while (!reachable_.empty()) {
      const size_t block = reachable_.back();
      reachable_.pop_back();
      WordsOf(block, [&](uint64_t word) { FromReachable(word, false); });
    }
  }

  void SpreadPossible() {
    while (!possible_.empty()) {
      const size_t from = possible_.back();
      possible_.pop_back();
      if (reach_[from] == Reach::kReachable) continue;  // found out since
      WordsOf(from, [&](uint64_t word) {
        const size_t block = Find(word);
        if (block == kNone || reach_[block] != Reach::kDefinitelyLost) return;
        reach_[block] = Reach::kPossiblyLost;
        possible_.push_back(block);
      });
    }
  }

  void MarkLost() {
    std::vector<size_t> spread;
    // 1 + the leader from which a block was reached; 0: it was not.
    std::vector<size_t> reached(blocks_.size(), 0);
    for (size_t leader = 0; leader < blocks_.size(); ++leader) {
      if (reach_[leader] != Reach::kDefinitelyLost || reached[leader] != 0) continue;
      reached[leader] = leader + 1;
      spread.push_back(leader);
      while (!spread.empty()) {
        const size_t from = spread.back();
        spread.pop_back();
        WordsOf(from, [&](uint64_t word) {
          const size_t block = Find(word);
          if (block == kNone || block == leader) return;
          if (reach_[block] == Reach::kDefinitelyLost) {
            // Another leader, of a circle or a tree that this one holds, was spread from already.
            reach_[block] = Reach::kIndirectlyLost;
            if (reached[block] != 0) return;
            reached[block] = leader + 1;
            spread.push_back(block);
          }
        });
      }
    }
  }

  const absl::Span<const ScanBlock> blocks_;
  const WordReader& read_;
  std::vector<Reach> reach_;
  std::vector<uint64_t> addresses_;
  uint64_t low_ = 0;
  uint64_t high_ = 0;  // behind the last block
  std::vector<size_t> reachable_;
  std::vector<size_t> possible_;
};

}  // namespace

std::vector<Reach> FindReachable(absl::Span<const ScanBlock> blocks,
                                 absl::Span<const RootRange> roots,
                                 absl::Span<const uint64_t> registers, const WordReader& read) {
  return Marking(blocks, read).Run(roots, registers);
}

}  // namespace ollamatrace
