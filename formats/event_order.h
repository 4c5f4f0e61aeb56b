// The true order of the events that lie in a journal's rings.
#ifndef OLLAMATRACE_FORMATS_EVENT_ORDER_H_
#define OLLAMATRACE_FORMATS_EVENT_ORDER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "formats/journal_snapshot.h"

namespace ollamatrace {

// Calls `next(ring, index)` for events[index] of rings[ring], each once: those of a ring in the
// ring's order, and those of a shard by their place in it. Both orders are times at which the
// events took place, so they never contradict each other; places that no event filled are stepped
// over. Where a damaged journal has a contradiction all the same, an event comes out of its shard's
// order. Of events that are not sure (JournalSnapshot::Ring::sure) only those come that have a
// later sure one in their shard. Time: n log n. Returns the number of contradictions.
uint64_t ForEachEventInOrder(const std::vector<JournalSnapshot::Ring>& rings,
                             const std::function<void(size_t ring, size_t index)>& next);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_EVENT_ORDER_H_
