#include "analyzer/replay/group_series.h"

#include <algorithm>
#include <iterator>
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
  if (row.list == 0) {
    row.list = static_cast<uint32_t>(lists_.size());
    lists_.emplace_back();
  }
  std::vector<Change>& list = lists_[row.list];
  // Times come in their order, nearly.
  const auto place = [&] {
    auto it = list.end();
    while (it != list.begin() && std::prev(it)->cell >= row.cell) --it;
    return it;
  };
  auto it = place();
  const bool known = it != list.end() && it->cell == row.cell;
  if (!known && list.size() >= kFewCells && row.busy == 0) {
    row.busy = 1;
    CountBusyRow();  // this may change all cells, row.cell too
    it = place();
  }
  if (it == list.end() || it->cell != row.cell) it = list.insert(it, {0, 0, row.cell});
  it->delta += row.delta;
  it->born += row.born;
  row.delta = 0;
  row.born = 0;
}

void GroupSeries::CountBusyRow() {
  ++busy_rows_;
  if (busy_rows_ * SlotsOfARow() > kMaxBusySlots && time_limit_ > kLeastTimeSlots) {
    HalveLimits();
  }
}

// `merge(cell)` is the cell of now that holds what was in `cell`; it keeps their order.
template <typename Merge>
void GroupSeries::Remap(const Merge& merge) {
  for (std::vector<Change>& list : lists_) {
    size_t used = 0;
    for (const Change& change : list) {
      const Cell cell = merge(change.cell);
      if (used == 0 || list[used - 1].cell != cell) {
        list[used++] = {change.delta, change.born, cell};
        continue;
      }
      list[used - 1].delta += change.delta;
      list[used - 1].born += change.born;
    }
    list.resize(used);
  }
  for (Row& row : rows_) {
    if (row.cell != kNoCell) row.cell = merge(row.cell);
  }
  cell_ = kNoCell;
  cell_begin_ = 1;
  cell_end_ = 0;
}

void GroupSeries::DoubleTime() {
  ++shift_;
  time_used_ = (time_used_ + 1) / 2;
  Remap([](Cell cell) { return (cell >> 9) << 8 | (cell & 0xff); });
}

void GroupSeries::DoubleRequests() {
  ++request_shift_;
  request_used_ = (request_used_ + 1) / 2;
  Remap([](Cell cell) {
    const Cell slot = cell & 0xff;
    return slot == kRequestSlots ? cell : (cell & ~Cell{0xff}) | slot / 2;
  });
  SetRequestEdges();
}

// The same times and requests in half as many slots.
void GroupSeries::HalveLimits() {
  time_limit_ /= 2;
  request_limit_ /= 2;
  --generation_bits_;  // the generations stay what they are
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
  for (const Change& change : lists_[last.list]) add(change.cell, change.delta, change.born);
}

}  // namespace ollamatrace
