// Fuzz inputs for journals: programs of operations, each a byte and its arguments.
#ifndef OLLAMATRACE_FORMATS_FUZZ_JOURNAL_PROGRAM_H_
#define OLLAMATRACE_FORMATS_FUZZ_JOURNAL_PROGRAM_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "formats/test_journal.h"

namespace ollamatrace {

// Operations, low four bits of the byte; numbers are little endian.
enum class JournalOperation : uint8_t {
  kPublish = 0,     // u8 ring, u8 kind, u8 attributes, u16 address / 16, u16 size, u8 ticks
  kPublishRaw = 1,  // u8 ring, 32 bytes: an Event
  kDefine = 2,      // u8 size, the record
  kStage = 3,       // u8 size, the bytes; they are committed
  kIdentity = 4,    // u8 size, the record
  kBlock = 5,       // u8 entry, 32 bytes: a BlockEntry
  kCounter = 6,     // u8 slot, 64 bytes: a CounterSlot
  kMapping = 7,     // u8 entry, 48 bytes: a MappingEntry
  kPending = 8,     // u8 entry, 32 bytes: a PendingUnmap
  kNode = 9,        // u8 id, 16 bytes: a StackNode
  kRing = 10,       // u8 ring, 128 bytes: a RingEntry
  kHeader = 11,     // u8 word, u64 value: a word of the header, magic and version included
  kLog = 12,        // u8 words, u8 section, u16 word: into the undo log, as the drain does it
  kUndo = 13,       // u64: a word of the undo log, whatever it means
  kSize = 14,       // u8: the file is cut at this many eighths of a section's begin
  kSequence = 15,   // u16 shard, u32: the next place of a shard
};

// Runs the program on a fresh journal and returns how many bytes of it there are. Counts that would
// only cost time are kept small; impossible ones are left alone.
uint64_t RunJournalProgram(absl::string_view program, TestJournal& journal);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_FUZZ_JOURNAL_PROGRAM_H_
