// Whatever a journal holds: its reader neither crashes nor hangs nor claims memory without bound.
// The input is a program that fills a journal (see journal_program.h), so that no file of its size
// is needed.
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "formats/byte_source.h"
#include "formats/fuzz/journal_program.h"
#include "formats/journal_reader.h"
#include "formats/record_text.h"
#include "formats/test_journal.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ollamatrace;
  TestJournal journal;
  const uint64_t journal_bytes =
      RunJournalProgram(absl::string_view(reinterpret_cast<const char*>(data), size), journal);
  MemorySource source(journal.bytes(journal_bytes));
  const absl::StatusOr<JournalSnapshot> snapshot = ReadJournal(source);
  if (!snapshot.ok()) {
    if (snapshot.status().message().find('\n') != absl::string_view::npos) abort();
    return 0;
  }
  ReadSummary summary;
  uint64_t records = 0;
  RecordText text([&](absl::string_view) { ++records; });
  RecordDecoder decoder(text);
  DeliverJournal(*snapshot, decoder, text, summary);
  if (summary.notes.size() > ReadSummary::kMaxNotes + 1) abort();
  // No event comes twice.
  uint64_t most = kMaxYoungMappings + kMaxPendingUnmaps + kLossKinds + 1;
  for (const JournalSnapshot::Ring& ring : snapshot->rings) most += ring.events.size() + 1;
  most += snapshot->nodes.size() + snapshot->blocks.size() + snapshot->counters.size();
  for (const std::string& record : snapshot->definitions) most += record.size();
  most += snapshot->staged.size();
  if (records > most) abort();
  return 0;
}
