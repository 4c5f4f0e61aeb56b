#include "formats/test_journal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace ollamatrace {
namespace {

void Require(bool good, const char* what) {
  if (good) return;
  perror(what);
  abort();
}

}  // namespace

TestJournal::TestJournal(const std::string& path) : next_seq_(kShards, 0) {
  int fd = -1;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  if (!path.empty()) {
    fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    Require(fd >= 0, path.c_str());
    Require(ftruncate(fd, kJournalBytes) == 0, path.c_str());
    flags = MAP_SHARED;
  }
  void* memory = mmap(nullptr, kJournalBytes, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, 0);
  Require(memory != MAP_FAILED, "mmap");
  if (fd >= 0) close(fd);
  base_ = static_cast<uint8_t*>(memory);
  JournalHeader& head = header();
  memcpy(head.magic, kJournalMagic, sizeof(kJournalMagic));
  head.version = kJournalVersion;
  head.state = static_cast<uint32_t>(JournalState::kActive);
  head.pid = kTestPid;
  head.pool_capacity = kDefaultBlocks;
  head.next_node = 1;
  head.pool_used = 1;  // entry and slot 0 are never used
  head.counters_used = 1;
}

TestJournal::~TestJournal() { munmap(base_, kJournalBytes); }

void TestJournal::Attach(uint32_t number, uint32_t thread) {
  RingEntry& entry = ring(number);
  entry.thread = thread;
  entry.state = static_cast<uint32_t>(RingState::kAttached);
  if (header().rings_used <= number) header().rings_used = number + 1;
}

void TestJournal::PublishAt(uint32_t number, uint32_t seq, EventKind kind, uint64_t address) {
  const uint64_t packed = PackEvent(kind, AllocFunction::kMalloc, 0, 8);
  next_seq_[ShardOf(Event{address, packed, 0, 0, 0})] = seq;
  Publish(number, kind, address, 8);
}

void TestJournal::Publish(uint32_t number, EventKind kind, uint64_t address, uint64_t size,
                          uint8_t attributes, uint64_t ticks, uint32_t stack,
                          AllocFunction function) {
  RingEntry& entry = ring(number);
  const uint64_t head = entry.head.load(std::memory_order_relaxed);
  Event event{address, PackEvent(kind, function, attributes, size), ticks, stack, 0};
  event.seq = next_seq_[ShardOf(event)]++;
  auto* events = At<Event>(RingDataOffset(number));
  events[head % RingCapacity(number)] = event;
  entry.head.store(head + 1, std::memory_order_release);
}

void TestJournal::Define(absl::string_view record) {
  const uint64_t head = header().definitions_head.load(std::memory_order_relaxed);
  std::string entry;
  for (int i = 0; i < 4; ++i) entry += static_cast<char>(record.size() >> (8 * i));
  entry.append(record.data(), record.size());
  for (size_t i = 0; i < entry.size(); ++i) {
    base_[kDefinitionsOffset + (head + i) % kDefinitionsBytes] = static_cast<uint8_t>(entry[i]);
  }
  header().definitions_head.store(head + entry.size(), std::memory_order_release);
}

void TestJournal::SetIdentity(absl::string_view record) {
  memcpy(base_ + kIdentityOffset, record.data(), record.size());
  header().identity_bytes = static_cast<uint32_t>(record.size());
}

void TestJournal::Begin() {
  header().commit_sequence.fetch_add(1);
  Step();
}

void TestJournal::Log(const void* place, uint32_t words) {
  const uint64_t count = header().undo_count.load(std::memory_order_relaxed);
  memmove(undo() + count, place, words * sizeof(uint64_t));  // a fuzzer logs the log
  Step();
  const uint64_t offset = static_cast<uint64_t>(static_cast<const uint8_t*>(place) - base_);
  undo()[count + words] = UndoMark(offset, words);
  Step();
  header().undo_count.store(count + words + 1, std::memory_order_release);
  Step();
}

void TestJournal::Commit() {
  header().undo_count.store(0, std::memory_order_release);
  Step();
  header().commit_sequence.fetch_add(1, std::memory_order_release);
  Step();
}

}  // namespace ollamatrace
