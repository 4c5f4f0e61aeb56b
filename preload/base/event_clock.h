#ifndef OLLAMATRACE_PRELOAD_BASE_EVENT_CLOCK_H_
#define OLLAMATRACE_PRELOAD_BASE_EVENT_CLOCK_H_

// The times of a thread's events. Reading the clock costs as much as all else of an event (rdtsc: 9
// ns on a virtual machine); where events come thick, one time is as good for a few that follow each
// other at once. Whether they do is told by somebody else, who comes by now and then: by its turn.

#include <cstdint>

namespace ollamatrace {

class EventClock {
 public:
  // So many events have one time at the most. It is odd: where pairs of malloc and free alternate,
  // new times come as often between the two as between pairs, so that lifetimes are right on
  // average.
  static constexpr uint32_t kEvents = 7;

  // The time of the next event, by `read`, or that of one of the thread's few events before: of the
  // same turn, which is a number that changes all the time. Turn 0: each event has its own.
  template <typename Read>
  uint64_t Next(uint32_t turn, Read read) {
    if (left_ != 0 && turn == turn_) {
      --left_;
    } else {
      last_ = read();
      turn_ = turn;
      left_ = turn != 0 ? kEvents - 1 : 0;
    }
    return last_;
  }
  // The next event has a time of its own.
  void Expire() { left_ = 0; }
  uint64_t last() const { return last_; }

 private:
  uint64_t last_ = 0;
  uint32_t turn_ = 0;
  uint32_t left_ = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_BASE_EVENT_CLOCK_H_
