// For tests: a journal, built as the library builds it.
#ifndef OLLAMATRACE_FORMATS_TEST_JOURNAL_H_
#define OLLAMATRACE_FORMATS_TEST_JOURNAL_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "formats/journal_layout.h"

namespace ollamatrace {

// A whole journal, mapped, of which only the pages that are touched exist. Aborts when it cannot be
// mapped.
class TestJournal {
 public:
  // In memory only, or in the file `path`, which is created.
  explicit TestJournal(const std::string& path = "");
  ~TestJournal();
  TestJournal(const TestJournal&) = delete;
  TestJournal& operator=(const TestJournal&) = delete;

  // The source that a reader is to read; `size` of its bytes.
  absl::string_view bytes(uint64_t size = kJournalBytes) const {
    return {reinterpret_cast<const char*>(base_), size};
  }
  uint8_t* base() const { return base_; }

  JournalHeader& header() const { return *At<JournalHeader>(0); }
  RingEntry& ring(uint32_t number) const {
    return *At<RingEntry>(kRingsOffset + number * sizeof(RingEntry));
  }
  StackNode& node(uint32_t id) const {
    return *At<StackNode>(kNodesOffset + id * sizeof(StackNode));
  }
  BlockEntry& block(uint32_t entry) const {
    return *At<BlockEntry>(kPoolOffset + entry * sizeof(BlockEntry));
  }
  CounterSlot& counter(uint32_t slot) const {
    return *At<CounterSlot>(kCountersOffset + slot * sizeof(CounterSlot));
  }
  MappingEntry& mapping(uint32_t entry) const {
    return *At<MappingEntry>(kMappingsOffset + entry * sizeof(MappingEntry));
  }
  PendingUnmap& pending(uint32_t entry) const {
    return *At<PendingUnmap>(kPendingOffset + entry * sizeof(PendingUnmap));
  }
  uint64_t* undo() const { return At<uint64_t>(kUndoOffset); }
  uint8_t* staging() const { return base_ + kStagingOffset; }

  // Producers. The event takes the next place of its shard; ticks are ns.
  void Publish(uint32_t ring, EventKind kind, uint64_t address, uint64_t size = 0,
               uint8_t attributes = 0, uint64_t ticks = 1, uint32_t stack = 0,
               AllocFunction function = AllocFunction::kMalloc);
  void PublishAt(uint32_t ring, uint32_t seq, EventKind kind, uint64_t address);
  uint32_t& next_seq(uint32_t shard) { return next_seq_[shard]; }
  // Attaches a ring that nobody has.
  void Attach(uint32_t ring, uint32_t thread);
  void Define(absl::string_view record);
  void SetIdentity(absl::string_view record);

  // The drain. `step` is called after each store to the mapping.
  void set_step(std::function<void()> step) { step_ = std::move(step); }
  void Begin();
  void Log(const void* place, uint32_t words);
  template <typename T>
  void Store(T& place, T value) {
    place = value;
    Step();
  }
  // Log and Store of the 8-byte word that the place lies in.
  template <typename T>
  void Change(T& place, T value) {
    const uint64_t offset = static_cast<uint64_t>(reinterpret_cast<uint8_t*>(&place) - base_);
    Log(base_ + offset / 8 * 8, 1);
    Store(place, value);
  }
  void Commit();

 private:
  template <typename T>
  T* At(uint64_t offset) const {
    return reinterpret_cast<T*>(base_ + offset);
  }
  void Step() {
    if (step_) step_();
  }

  uint8_t* base_;
  std::vector<uint32_t> next_seq_;
  std::function<void()> step_;
};

inline constexpr uint32_t kTestPid = 4242;

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_TEST_JOURNAL_H_
