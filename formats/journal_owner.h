// Whether the process that a journal belongs to is there.
#ifndef OLLAMATRACE_FORMATS_JOURNAL_OWNER_H_
#define OLLAMATRACE_FORMATS_JOURNAL_OWNER_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace ollamatrace {

struct JournalOwner {
  uint32_t pid = 0;
  uint64_t process_start = 0;  // proc(5), /proc/PID/stat field 22; 0: not known
  // The journal's file, which the owner has mapped. A process that has not, with the same pid and
  // start, is what the owner became by exec. Inode 0: not asked.
  uint64_t device = 0;
  uint64_t inode = 0;
  std::string file_name;  // without folder
};

// `proc` is the root of a proc file system. Where /proc/PID/maps may not be read, pid and start
// decide. A zombie is not alive, unless another thread of it is.
bool OwnerAlive(const JournalOwner& owner, const std::string& proc = "/proc");

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_JOURNAL_OWNER_H_
