#ifndef OLLAMATRACE_PRELOAD_DRAIN_MAPPINGS_H_
#define OLLAMATRACE_PRELOAD_DRAIN_MAPPINGS_H_

// Mappings: young ones are held in the journal's table, so that one that is unmapped whole while it
// is young becomes part of its stack's counters. All else is written out, in order.
//
// An unmap's event is taken before the call, which may fail: it is pending until the ring's next
// event says so, or until a mapping over its range shows that it went through.
//
// As in fold.h, false means that there is no room now.

#include <cstdint>

#include "preload/drain/drain_state.h"

namespace ollamatrace {

bool OnMap(Drain* drain, const Event& event, uint32_t thread, uint64_t time_ns);
bool OnUnmap(Drain* drain, uint32_t ring, const Event& event, uint32_t thread, uint64_t time_ns);

// What the kind of the ring's next event says about its pending unmap.
bool SettleUnmap(Drain* drain, uint32_t ring, EventKind next);

// Writes the young mapping to the trace; it is held no longer.
bool WriteOutMapping(Drain* drain, uint32_t index);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_MAPPINGS_H_
