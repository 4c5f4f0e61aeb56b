// What reading a trace came across.
#ifndef OLLAMATRACE_FORMATS_READ_SUMMARY_H_
#define OLLAMATRACE_FORMATS_READ_SUMMARY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace ollamatrace {

struct ReadSummary {
  uint64_t chunks = 0;
  // Skipped, whole or from a bad record on: bad checksum, bad record, impossible length, missing.
  uint64_t damaged_chunks = 0;
  // Bytes of the file that belonged to no readable chunk, the cut tail included.
  uint64_t dropped_bytes = 0;
  bool truncated = false;          // the file ends inside a chunk
  uint64_t unknown_records = 0;    // kinds that this reader does not know, skipped
  bool has_journal = false;        // a journal was read too
  bool owner_alive = false;        // ... and its process was alive at that moment
  bool complete = false;           // an End record was read
  std::vector<std::string> files;  // paths of the trace's files, in the order of their records
  std::vector<std::string> notes;  // one line each, for the user: what was wrong, what it means

  // A trace with thousands of damaged chunks does not get thousands of notes.
  static constexpr size_t kMaxNotes = 32;
  void AddNote(std::string note) {
    if (notes.size() < kMaxNotes) {
      notes.push_back(std::move(note));
    } else if (notes.size() == kMaxNotes) {
      notes.push_back("and more damage of this kind, not listed");
    }
  }
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_READ_SUMMARY_H_
