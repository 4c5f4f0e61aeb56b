#ifndef OLLAMATRACE_PRELOAD_DRAIN_RINGS_H_
#define OLLAMATRACE_PRELOAD_DRAIN_RINGS_H_

// Takes events out of the rings in the order of their shards.
//
// Places that nobody fills. A thread takes its place in a shard, then publishes its event; a signal
// handler that leaves by siglongjmp in between abandons the place, and all later events of the
// shard would wait for it. A place is known to be abandoned when, in this order,
//   1. a ring has an event with a later place of the shard (heads read with acquire),
//   2. then no ring's pending_shard names the shard (read with acquire),
//   3. then no ring has the event (heads read with acquire, all events looked at: it may stand
//      behind another event that waits).
// For the thread T that took place p of the shard did so after storing its pending_shard (the store
// is sequenced before the fetch_add). Another thread has a later place of the shard, and we read
// its event in 1: its fetch_add read, through the chain of read-modify-writes (a release sequence),
// what T's fetch_add wrote, so T's store of pending_shard happens before our read in 2. We
// therefore read that store or a later one of T's. If it is that store, the shard is named. If it
// is a later one, a release, then T either published p before it, and in 3 we see T's head with p
// in it, or T has left p behind. (A later event that is first seen in 3 proves nothing: T and its
// maker may have begun after 2.)
//
// A thread that abandoned a place and makes no further event keeps naming the shard. So a place
// that has kept others waiting for a second is given up all the same; should its event come after
// all (the thread stood still: a debugger, a stopped process), it is taken when it comes.

#include <cstdint>

#include "preload/drain/drain_state.h"

namespace ollamatrace {

inline constexpr uint64_t kScanAllNs = 10'000'000;  // quiet rings are looked at this often
// A place that others wait for is sought this often; and when nothing goes on at all.
inline constexpr uint64_t kSearchNs = 10'000'000;
inline constexpr uint64_t kSearchStuckNs = 1'000'000;
inline constexpr uint64_t kGiveUpNs = 1'000'000'000;  // a pending place is given up after this

enum class RingsStatus : uint8_t {
  kEmpty,    // all rings that were looked at are empty
  kWaiting,  // what is left waits for a producer, as far as is known
  kMore,     // there is more, or may be
};

// Consumes events until the batch is full or none can be taken.
RingsStatus DrainRings(Drain* drain);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_RINGS_H_
