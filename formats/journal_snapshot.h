// A journal as it was at one moment: copied, repaired by its undo log, and checked.
#ifndef OLLAMATRACE_FORMATS_JOURNAL_SNAPSHOT_H_
#define OLLAMATRACE_FORMATS_JOURNAL_SNAPSHOT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/byte_source.h"
#include "formats/journal_layout.h"

namespace ollamatrace {

// Every count in it was held against the layout's limits and the file's size. The contents of
// events and entries are as found.
struct JournalSnapshot {
  struct Ring {
    uint32_t number = 0;
    uint32_t thread = 0;
    uint64_t limbo_address = 0;
    uint64_t limbo_ns = 0;
    uint64_t limbo_domain = 0;
    std::vector<Event> events;  // not consumed by the drain yet, oldest first
    // Of a living process: the first `sure` events were published before the copy began. What came
    // later is here, too: it may have caused an event of another ring's sure part, or be the
    // outcome of one.
    size_t sure = 0;
  };

  JournalState state = JournalState::kUnborn;
  bool owner_alive = false;
  // False: the owner changed the journal while it was copied, again and again.
  bool consistent = true;
  uint32_t pid = 0;
  uint64_t process_start = 0;
  TimeAnchors anchors{};
  // The files of the trace: its segments from first_segment to `segment`, and before them, when
  // first_segment is not 0, the checkpoint of that number.
  uint32_t segment = 0;
  uint32_t first_segment = 0;
  uint64_t trace_end = 0;  // bytes of that segment that are committed: what is here follows them
  std::string identity;    // the encoded Header record
  std::vector<std::string> definitions;  // encoded records
  std::string staged;                    // encoded records of the chunk that was being filled
  std::vector<StackNode> nodes;          // by id from 1 on; address 0: not filled
  std::vector<Ring> rings;               // those with events or a block in limbo
  std::vector<BlockEntry> blocks;        // live ones
  std::vector<CounterSlot> counters;
  std::vector<MappingEntry> mappings;
  std::vector<PendingUnmap> pending_unmaps;
  std::array<uint64_t, kLossKinds> losses{};
  std::vector<std::string> notes;  // one line each: what was damaged
};

// Reads a journal that nobody writes to any more. Errors: InvalidArgument (no journal),
// FailedPrecondition (of another version; both are in the text), Internal (reading failed). Damage
// inside is noted, and costs the part that it is in. Memory: the used parts, each at most as large
// as the layout and the source allow.
absl::StatusOr<JournalSnapshot> ReadJournal(ByteSource& source);

// Reads the journal `path`, of a process that lives or not. A living owner's drain is asked to
// stand still for kPauseNs at a time, when the file may be written; its threads go on. Tries again
// while the owner changes what is read. Errors: those of ReadJournal and of FileSource::Open.
absl::StatusOr<JournalSnapshot> TakeJournalSnapshot(const std::string& path);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_JOURNAL_SNAPSHOT_H_
