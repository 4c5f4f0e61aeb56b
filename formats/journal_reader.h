// Delivers what a journal holds beyond the committed part of its trace.
#ifndef OLLAMATRACE_FORMATS_JOURNAL_READER_H_
#define OLLAMATRACE_FORMATS_JOURNAL_READER_H_

#include "formats/journal_snapshot.h"
#include "formats/read_summary.h"
#include "formats/record_decoder.h"
#include "formats/trace_visitor.h"

namespace ollamatrace {

// To be called after `decoder` has delivered the first snapshot.trace_end bytes of the trace to
// `visitor`. The order: definitions (a header first, when the trace had none), staged records, live
// blocks and mappings that the drain holds, events of the rings in their true order, counters,
// losses.
//
// Halves. A realloc is two events: before the call its block is given up, after it the outcome is
// told. Where a block was given up and no outcome is there, the call had not returned when the
// process ended (or was looked at): nobody may use the old block any more, and it counts as freed.
// It lives on only when the outcome says that the call failed. The same holds for munmap.
void DeliverJournal(const JournalSnapshot& snapshot, RecordDecoder& decoder, TraceVisitor& visitor,
                    ReadSummary& summary);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_JOURNAL_READER_H_
