#include "analyzer/replay/group_series.h"

#include <algorithm>
#include <utility>

namespace ollamatrace {
namespace {

constexpr size_t kLeastTimeSlots = GroupSeries::kTimeSlots / 8;

}  // namespace

void GroupSeries::SetOrigin(uint64_t origin_ns) {
  origin_ns_ = origin_ns;
  cell_begin_ = 1;
  cell_end_ = 0;
}

void GroupSeries::SetRequests(absl::Span<const uint64_t> times) {
  requests_ = times;
  SetRequestEdges();
}

void GroupSeries::SetRequestEdges() {
  request_edges_.clear();
  const size_t step = size_t{1} << request_shift_;
  for (size_t first = 0; first < requests_.size() && request_edges_.size() < request_limit_;
       first += step) {
    request_edges_.push_back(requests_[std::min(first + step, requests_.size()) - 1]);
  }
}

uint64_t GroupSeries::Edge(uint64_t slot) const {
  const uint64_t room = ~origin_ns_;
  return slot > room >> shift_ ? ~uint64_t{0} : origin_ns_ + (slot << shift_);
}

size_t GroupSeries::SlotOfTime(uint64_t time_ns) const {
  const uint64_t slot = time_ns <= origin_ns_ ? 0 : (time_ns - origin_ns_) >> shift_;
  return std::min<uint64_t>(slot, time_used_ == 0 ? 0 : time_used_ - 1);
}

uint64_t GroupSeries::RequestsAt(size_t slot) const {
  return std::min<uint64_t>((slot + 1) << request_shift_, requests_.size());
}

size_t GroupSeries::generations() const {
  return (time_used_ + (size_t{1} << generation_bits_) - 1) >> generation_bits_;
}

size_t GroupSeries::GenerationOfTime(uint64_t time_ns) const {
  return SlotOfTime(time_ns) >> generation_bits_;
}

void GroupSeries::FindCell(uint64_t time_ns) {
  const auto slot_of = [&] { return time_ns <= origin_ns_ ? 0 : (time_ns - origin_ns_) >> shift_; };
  while (slot_of() >= time_limit_) DoubleTime();
  const size_t time_slot = slot_of();
  cell_begin_ = time_slot == 0 ? 0 : Edge(time_slot);
  cell_end_ = Edge(time_slot + 1);
  size_t request_slot = kRequestSlots;
  if (!requests_.empty() && time_ns <= requests_.back()) {
    while (time_ns > request_edges_.back()) DoubleRequests();
    const auto edge = std::lower_bound(request_edges_.begin(), request_edges_.end(), time_ns);
    request_slot = static_cast<size_t>(edge - request_edges_.begin());
    if (*edge != ~uint64_t{0}) cell_end_ = std::min(cell_end_, *edge + 1);
    if (edge != request_edges_.begin()) cell_begin_ = std::max(cell_begin_, *(edge - 1) + 1);
    request_used_ = std::max(request_used_, request_slot + 1);
  } else if (!requests_.empty()) {
    if (requests_.back() != ~uint64_t{0}) {
      cell_begin_ = std::max(cell_begin_, requests_.back() + 1);
    }
    // All requests had been answered when this happened.
    while (request_edges_.back() < requests_.back()) DoubleRequests();
    request_used_ = request_edges_.size();
  }
  time_used_ = std::max(time_used_, time_slot + 1);
  cell_ = CellOf(time_slot, request_slot);
}

void GroupSeries::Flush(Row& row) {
  if (row.cell == kNoCell) return;
  if (row.delta == 0 && row.born == 0) return;
  const auto store = [&] {
    if (row.store != 0 && row.store % 2 == 0) {
      AddToDense(row.store / 2, row.cell, row.delta, row.born);
      return;
    }
    if (row.store == 0) {
      if (free_sparse_.empty()) {
        row.store = static_cast<uint32_t>(sparse_.size() * 2 + 1);
        sparse_.emplace_back();
      } else {
        row.store = free_sparse_.back() * 2 + 1;
        free_sparse_.pop_back();
        sparse_[row.store / 2] = Sparse();
      }
    }
    const uint32_t index = row.store / 2;
    for (size_t i = 0; i < 4; ++i) {
      Sparse& sparse = sparse_[index];
      if (sparse.cells[i] != row.cell && sparse.cells[i] != kNoCell) continue;
      sparse.cells[i] = row.cell;
      sparse.delta[i] += row.delta;
      sparse.born[i] += row.born;
      return;
    }
    const uint32_t dense = NewDense();  // this may change all cells, row.cell too
    for (size_t i = 0; i < 4; ++i) {
      const Sparse& sparse = sparse_[index];
      if (sparse.cells[i] == kNoCell) continue;  // it has become one with another
      AddToDense(dense, sparse.cells[i], sparse.delta[i], sparse.born[i]);
    }
    AddToDense(dense, row.cell, row.delta, row.born);
    free_sparse_.push_back(index);
    row.store = dense * 2;
  };
  store();
  row.delta = 0;
  row.born = 0;
}

void GroupSeries::AddToDense(size_t dense, Cell cell, uint64_t delta, uint64_t born) {
  uint64_t* const words = &dense_[dense * Stride()];
  const size_t time_slot = cell >> 8, request_slot = cell & 0xff;
  words[time_slot] += delta;
  if (request_slot < request_limit_) words[time_limit_ + request_slot] += delta;
  words[time_limit_ + request_limit_ + (time_slot >> generation_bits_)] += born;
}

uint32_t GroupSeries::NewDense() {
  if (dense_.empty()) dense_.resize(Stride());
  if (dense_.size() * sizeof(uint64_t) > kMaxDenseBytes && time_limit_ > kLeastTimeSlots) {
    HalveLimits();
  }
  const size_t dense = dense_.size() / Stride();
  dense_.resize(dense_.size() + Stride());
  return static_cast<uint32_t>(dense);
}

// `merge(cell)` is the cell of now that holds what was in `cell`; of dense rows, the halves of the
// axes are merged by the callers.
template <typename Merge>
void GroupSeries::Remap(const Merge& merge) {
  for (Sparse& sparse : sparse_) {
    Sparse merged;
    size_t used = 0;
    for (size_t i = 0; i < 4; ++i) {
      if (sparse.cells[i] == kNoCell) continue;
      const Cell cell = merge(sparse.cells[i]);
      size_t at = 0;
      while (at < used && merged.cells[at] != cell) ++at;
      if (at == used) merged.cells[used++] = cell;
      merged.delta[at] += sparse.delta[i];
      merged.born[at] += sparse.born[i];
    }
    sparse = merged;
  }
  for (Row& row : rows_) {
    if (row.cell != kNoCell) row.cell = merge(row.cell);
  }
  cell_ = kNoCell;
  cell_begin_ = 1;
  cell_end_ = 0;
}

namespace {

void MergePairs(uint64_t* words, size_t count) {
  for (size_t i = 0; i < count / 2; ++i) words[i] = words[2 * i] + words[2 * i + 1];
  for (size_t i = count / 2; i < count; ++i) words[i] = 0;
}

}  // namespace

void GroupSeries::DoubleTime() {
  ++shift_;
  time_used_ = (time_used_ + 1) / 2;
  for (size_t at = 0; at < dense_.size(); at += Stride()) {
    MergePairs(&dense_[at], time_limit_);
    MergePairs(&dense_[at + time_limit_ + request_limit_], kGenerations);
  }
  Remap([](Cell cell) { return (cell >> 9) << 8 | (cell & 0xff); });
}

void GroupSeries::DoubleRequests() {
  ++request_shift_;
  request_used_ = (request_used_ + 1) / 2;
  for (size_t at = 0; at < dense_.size(); at += Stride()) {
    MergePairs(&dense_[at + time_limit_], request_limit_);
  }
  Remap([](Cell cell) {
    const Cell slot = cell & 0xff;
    return slot == kRequestSlots ? cell : (cell & ~Cell{0xff}) | slot / 2;
  });
  SetRequestEdges();
}

// The same times and requests in half as many slots.
void GroupSeries::HalveLimits() {
  const size_t rows = dense_.size() / Stride(), stride = Stride();
  const size_t old_time = time_limit_, old_requests = request_limit_;
  time_limit_ /= 2;
  request_limit_ /= 2;
  --generation_bits_;  // the generations stay what they are
  std::vector<uint64_t> dense(rows * Stride());
  for (size_t row = 0; row < rows; ++row) {
    const uint64_t* const from = &dense_[row * stride];
    uint64_t* const to = &dense[row * Stride()];
    for (size_t i = 0; i < old_time; ++i) to[i / 2] += from[i];
    for (size_t i = 0; i < old_requests; ++i) to[time_limit_ + i / 2] += from[old_time + i];
    std::copy_n(from + old_time + old_requests, kGenerations, to + time_limit_ + request_limit_);
  }
  dense_ = std::move(dense);
  ++shift_;
  time_used_ = (time_used_ + 1) / 2;
  ++request_shift_;
  request_used_ = (request_used_ + 1) / 2;
  Remap([](Cell cell) {
    const Cell slot = cell & 0xff;
    return (cell >> 9) << 8 | (slot == kRequestSlots ? slot : slot / 2);
  });
  SetRequestEdges();
}

void GroupSeries::AddSurvivor(size_t row, uint64_t time_ns, uint64_t bytes) {
  if (row >= survivors_of_.size()) survivors_of_.resize(std::max(row + 1, rows_.size()));
  uint32_t& index = survivors_of_[row];
  if (index == 0) {
    index = static_cast<uint32_t>(survivors_.size());
    survivors_.emplace_back();
  }
  survivors_[index][GenerationOfTime(time_ns)] += bytes;
}

void GroupSeries::AddTo(size_t row, Sums& sums) const {
  if (sums.time.size() < time_used_) sums.time.resize(time_used_);
  if (sums.requests.size() < request_used_) sums.requests.resize(request_used_);
  if (sums.born.size() < generations()) sums.born.resize(generations());
  if (sums.live.size() < generations()) sums.live.resize(generations());
  if (row < survivors_of_.size()) {
    for (size_t i = 0; i < generations(); ++i) sums.live[i] += survivors_[survivors_of_[row]][i];
  }
  if (row >= rows_.size()) return;
  const auto add = [&](Cell cell, uint64_t delta, uint64_t born) {
    const size_t time_slot = cell >> 8, request_slot = cell & 0xff;
    const auto plus = [](int64_t& sum, uint64_t more) {
      sum = static_cast<int64_t>(static_cast<uint64_t>(sum) + more);
    };
    plus(sums.time[time_slot], delta);
    if (request_slot < request_used_) plus(sums.requests[request_slot], delta);
    sums.born[time_slot >> generation_bits_] += born;
  };
  const Row& last = rows_[row];
  if (last.cell != kNoCell) add(last.cell, last.delta, last.born);
  if (last.store % 2 == 1) {
    const Sparse& sparse = sparse_[last.store / 2];
    for (size_t i = 0; i < 4 && sparse.cells[i] != kNoCell; ++i) {
      add(sparse.cells[i], sparse.delta[i], sparse.born[i]);
    }
  } else if (last.store != 0) {
    const uint64_t* const words = &dense_[last.store / 2 * Stride()];
    for (size_t i = 0; i < time_used_; ++i) {
      sums.time[i] = static_cast<int64_t>(static_cast<uint64_t>(sums.time[i]) + words[i]);
    }
    for (size_t i = 0; i < request_used_; ++i) {
      sums.requests[i] =
          static_cast<int64_t>(static_cast<uint64_t>(sums.requests[i]) + words[time_limit_ + i]);
    }
    for (size_t i = 0; i < generations(); ++i) {
      sums.born[i] += words[time_limit_ + request_limit_ + i];
    }
  }
}

}  // namespace ollamatrace
