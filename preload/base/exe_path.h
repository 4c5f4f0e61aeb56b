#ifndef OLLAMATRACE_PRELOAD_BASE_EXE_PATH_H_
#define OLLAMATRACE_PRELOAD_BASE_EXE_PATH_H_

#include <fcntl.h>
#include <sys/auxv.h>

#include <cstddef>

#include "preload/base/sys.h"
#include "preload/base/text.h"

namespace ollamatrace {

// Writes the path of the program's file, ended by NUL, and returns its length; 0 when nothing is
// known. Where /proc is out of reach (a root without it): the path that exec was given (AT_EXECFN,
// getauxval(3)), which may be relative. Safe before libc's constructors.
inline size_t ReadExePath(char* out, size_t capacity) {
  const long length = sys::ReadLinkAt(AT_FDCWD, "/proc/self/exe", out, capacity - 1);
  if (!sys::Failed(length)) {
    out[length] = '\0';
    return static_cast<size_t>(length);
  }
  TextWriter path(out, capacity);
  const auto* const given = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  if (given != nullptr) path.Put(given);
  return path.size();
}

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_BASE_EXE_PATH_H_
