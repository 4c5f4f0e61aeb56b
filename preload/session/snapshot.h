#ifndef OLLAMATRACE_PRELOAD_SESSION_SNAPSHOT_H_
#define OLLAMATRACE_PRELOAD_SESSION_SNAPSHOT_H_

// A copy of the process for a reader (`ollama-leakview scan`) that has stopped its threads for a
// moment: forked by the drain's thread, since a fork from outside would have to bend the registers
// of a thread of the target's, and a reader that is killed meanwhile could not bend them back. The
// protocol is in formats/journal_layout.h.
//
// The copy runs no code of the target's: it closes its descriptors, offers itself to the kernel as
// the first to go when memory is short, and sleeps until its lease is over. Its end sends no
// signal; the drain's thread buries it.

#include <atomic>

namespace ollamatrace {

// By the drain's thread, now and then, with no lock held: serves a reader's request, where there
// is one, for at most its lease, a few seconds; less when `give_up` becomes true.
// `look`: takes a look at the memory map and stages it.
void ServeSnapshot(const std::atomic<bool>& give_up, void (*look)());

// In a fork child: the copy is the parent's.
void ForgetSnapshot();

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_SESSION_SNAPSHOT_H_
