#include "formats/fuzz/journal_program.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "formats/fuzz/fuzz_input.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kSections[] = {0,
                                  kUndoOffset,
                                  kDefinitionsOffset,
                                  kStagingOffset,
                                  kMappingsOffset,
                                  kPendingOffset,
                                  kIdentityOffset,
                                  kRingsOffset,
                                  kRingDataOffset,
                                  kNodesOffset,
                                  kCountersOffset,
                                  kPoolOffset,
                                  kJournalBytes};

// Large rings, small ones, and the last one.
uint32_t RingOf(uint8_t byte) { return byte == 0xff ? kMaxRings - 1 : byte % 20; }

void Fill(void* place, size_t size, FuzzInput& in) {
  const absl::string_view bytes = in.Bytes(size);
  if (!bytes.empty()) memcpy(place, bytes.data(), bytes.size());
}

template <typename T>
void KeepSmall(T& count, uint64_t limit) {
  constexpr uint32_t kSmall = 512;
  const uint64_t value = count;
  if (value > kSmall && value <= limit) count = value % kSmall;
}

}  // namespace

uint64_t RunJournalProgram(absl::string_view program, TestJournal& journal) {
  FuzzInput in(program);
  JournalHeader& header = journal.header();
  uint64_t size = kJournalBytes;
  while (!in.empty()) {
    switch (static_cast<JournalOperation>(in.Byte() & 15)) {
      case JournalOperation::kPublish: {
        const uint32_t ring = RingOf(in.Byte());
        const auto kind = static_cast<EventKind>(in.Byte() & 15);
        const uint8_t attributes = in.Byte();
        const uint64_t address = in.Number(2) * 16;
        const uint64_t bytes = in.Number(2);
        journal.Attach(ring, ring + 1);
        journal.Publish(ring, kind, address, bytes, attributes, in.Byte());
        break;
      }
      case JournalOperation::kPublishRaw: {
        const uint32_t ring = RingOf(in.Byte());
        journal.Attach(ring, ring + 1);
        RingEntry& entry = journal.ring(ring);
        const uint64_t place = entry.head % RingCapacity(ring);
        Fill(journal.base() + RingDataOffset(ring) + place * sizeof(Event), sizeof(Event), in);
        ++entry.head;
        break;
      }
      case JournalOperation::kDefine:
        journal.Define(in.Bytes(in.Byte()));
        break;
      case JournalOperation::kStage: {
        const absl::string_view bytes = in.Bytes(in.Byte());
        if (header.staged_bytes > kStagingBytes - bytes.size()) break;
        if (!bytes.empty()) {
          memcpy(journal.staging() + header.staged_bytes, bytes.data(), bytes.size());
        }
        header.staged_bytes += static_cast<uint32_t>(bytes.size());
        break;
      }
      case JournalOperation::kIdentity:
        journal.SetIdentity(in.Bytes(in.Byte()));
        break;
      case JournalOperation::kBlock: {
        const uint32_t entry = in.Byte();
        Fill(&journal.block(entry), sizeof(BlockEntry), in);
        header.pool_used = std::max<uint32_t>(header.pool_used, entry + 1);
        break;
      }
      case JournalOperation::kCounter: {
        const uint32_t slot = in.Byte();
        Fill(&journal.counter(slot), sizeof(CounterSlot), in);
        header.counters_used = std::max<uint32_t>(header.counters_used, slot + 1);
        break;
      }
      case JournalOperation::kMapping:
        Fill(&journal.mapping(in.Byte()), sizeof(MappingEntry), in);
        break;
      case JournalOperation::kPending:
        Fill(&journal.pending(in.Byte() % kMaxPendingUnmaps), sizeof(PendingUnmap), in);
        break;
      case JournalOperation::kNode: {
        const uint32_t id = in.Byte();
        Fill(&journal.node(id), sizeof(StackNode), in);
        header.next_node = std::max<uint32_t>(header.next_node, id + 1);
        break;
      }
      case JournalOperation::kRing: {
        const uint32_t ring = RingOf(in.Byte());
        Fill(static_cast<void*>(&journal.ring(ring)), sizeof(RingEntry), in);
        header.rings_used = std::max<uint32_t>(header.rings_used, ring + 1);
        break;
      }
      case JournalOperation::kHeader: {
        const uint64_t word = in.Byte() % (sizeof(JournalHeader) / 8);
        Fill(journal.base() + word * 8, 8, in);
        break;
      }
      case JournalOperation::kLog: {
        const uint32_t words = 1 + in.Byte() % 8;
        const uint64_t offset =
            kSections[in.Byte() % (std::size(kSections) - 1)] + in.Number(2) % 4096 * 8;
        if (header.undo_count > kUndoWords - 9) break;
        journal.Log(journal.base() + offset, words);
        break;
      }
      case JournalOperation::kUndo:
        if (header.undo_count >= kUndoWords) break;
        journal.undo()[header.undo_count] = in.Number(8);
        ++header.undo_count;
        break;
      case JournalOperation::kSize: {
        const uint8_t byte = in.Byte();
        const uint64_t section = kSections[1 + byte / 8 % (std::size(kSections) - 1)];
        size = std::min<uint64_t>(section - section / 64 * (byte % 8), kJournalBytes);
        break;
      }
      case JournalOperation::kSequence: {
        const uint32_t shard = static_cast<uint32_t>(in.Number(2)) % kShards;
        journal.next_seq(shard) = static_cast<uint32_t>(in.Number(4));
        break;
      }
    }
  }
  KeepSmall(header.pool_used, kMaxBlocks);
  KeepSmall(header.counters_used, kMaxCounters);
  KeepSmall(header.next_node, kMaxNodes);
  return size;
}

}  // namespace ollamatrace
