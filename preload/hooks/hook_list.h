#ifndef OLLAMATRACE_PRELOAD_HOOKS_HOOK_LIST_H_
#define OLLAMATRACE_PRELOAD_HOOKS_HOOK_LIST_H_

// Every function that the library stands in front of: X(result, name, (parameters)).
//
// Not hooked: reallocarray, strdup and their like (they call malloc and realloc through the hooks),
// dlopen (it would see the library as its caller, and not find what the caller's RUNPATH names).

#include <stddef.h>
#include <sys/types.h>

#define OLLAMATRACE_HOOKS(X)                                \
  X(void*, malloc, (size_t))                                \
  X(void*, calloc, (size_t, size_t))                        \
  X(void*, realloc, (void*, size_t))                        \
  X(void, free, (void*))                                    \
  X(int, posix_memalign, (void**, size_t, size_t))          \
  X(void*, aligned_alloc, (size_t, size_t))                 \
  X(void*, memalign, (size_t, size_t))                      \
  X(void*, valloc, (size_t))                                \
  X(void*, pvalloc, (size_t))                               \
  X(void, free_sized, (void*, size_t))                      \
  X(void, free_aligned_sized, (void*, size_t, size_t))      \
  X(void*, mmap, (void*, size_t, int, int, int, off_t))     \
  X(void*, mmap64, (void*, size_t, int, int, int, off64_t)) \
  X(int, munmap, (void*, size_t))                           \
  X(void*, mremap, (void*, size_t, size_t, int, ...))       \
  X(int, brk, (void*))                                      \
  X(void*, sbrk, (intptr_t))                                \
  X(int, dlclose, (void*))

#endif  // OLLAMATRACE_PRELOAD_HOOKS_HOOK_LIST_H_
