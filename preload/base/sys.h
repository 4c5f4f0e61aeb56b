#ifndef OLLAMATRACE_PRELOAD_BASE_SYS_H_
#define OLLAMATRACE_PRELOAD_BASE_SYS_H_

// Raw system calls for code that lives inside another program: no libc wrapper is called, so
// nothing here can be interposed, is a cancellation point, allocates, or writes errno. Every
// function answers what the kernel answers: a result, or -errno (-4095..-1).

#include <asm/unistd.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/stat.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include <cstddef>
#include <cstdint>

namespace ollamatrace::sys {

#if defined(__x86_64__)

inline long Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                 long f = 0) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

#elif defined(__aarch64__)

inline long Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                 long f = 0) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc #0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  return x0;
}

#else
#error "ollamatrace knows x86-64 and aarch64"
#endif

inline bool Failed(long result) { return result < 0 && result > -4096; }

template <typename T>
long Arg(T* pointer) {
  return reinterpret_cast<long>(pointer);
}

// ---- Memory

// The mapping, or nullptr.
inline void* Mmap(void* address, size_t length, int protection, int flags, int fd,
                  uint64_t offset) {
  const long result = Call(__NR_mmap, Arg(address), static_cast<long>(length), protection, flags,
                           fd, static_cast<long>(offset));
  return Failed(result) ? nullptr : reinterpret_cast<void*>(result);
}
// Private anonymous memory, zeroed, or nullptr. `flags` are added (MAP_NORESERVE, ...).
inline void* MmapPrivate(size_t length, int flags = 0) {
  return Mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}
inline long Munmap(void* address, size_t length) {
  return Call(__NR_munmap, Arg(address), static_cast<long>(length));
}
inline long Madvise(void* address, size_t length, int advice) {
  return Call(__NR_madvise, Arg(address), static_cast<long>(length), advice);
}
inline long Mprotect(void* address, size_t length, int protection) {
  return Call(__NR_mprotect, Arg(address), static_cast<long>(length), protection);
}
// Names an anonymous mapping in /proc/PID/maps (Linux 5.17; elsewhere an error that does not
// matter).
inline long NameMapping(void* address, size_t length, const char* name) {
  return Call(__NR_prctl, 0x53564d41 /* PR_SET_VMA */, 0 /* PR_SET_VMA_ANON_NAME */, Arg(address),
              static_cast<long>(length), Arg(name));
}

// ---- Files

inline long OpenAt(int dir_fd, const char* path, int flags, unsigned mode = 0) {
  return Call(__NR_openat, dir_fd, Arg(path), flags, static_cast<long>(mode));
}
inline long Open(const char* path, int flags, unsigned mode = 0) {
  return OpenAt(AT_FDCWD, path, flags, mode);
}
inline long Close(int fd) { return Call(__NR_close, fd); }
inline long Read(int fd, void* data, size_t size) {
  return Call(__NR_read, fd, Arg(data), static_cast<long>(size));
}
inline long Pread(int fd, void* data, size_t size, uint64_t offset) {
  return Call(__NR_pread64, fd, Arg(data), static_cast<long>(size), static_cast<long>(offset));
}
inline long Write(int fd, const void* data, size_t size) {
  return Call(__NR_write, fd, Arg(data), static_cast<long>(size));
}
inline long Pwrite(int fd, const void* data, size_t size, uint64_t offset) {
  return Call(__NR_pwrite64, fd, Arg(data), static_cast<long>(size), static_cast<long>(offset));
}
inline long Fallocate(int fd, int mode, uint64_t offset, uint64_t length) {
  return Call(__NR_fallocate, fd, mode, static_cast<long>(offset), static_cast<long>(length));
}
inline long Ftruncate(int fd, uint64_t length) {
  return Call(__NR_ftruncate, fd, static_cast<long>(length));
}
inline long Fcntl(int fd, int command, long argument = 0) {
  return Call(__NR_fcntl, fd, command, argument);
}
inline long MkdirAt(int dir_fd, const char* path, unsigned mode) {
  return Call(__NR_mkdirat, dir_fd, Arg(path), static_cast<long>(mode));
}
inline long UnlinkAt(int dir_fd, const char* path, int flags = 0) {
  return Call(__NR_unlinkat, dir_fd, Arg(path), flags);
}
inline long RenameAt(int old_dir, const char* old_path, int new_dir, const char* new_path) {
  return Call(__NR_renameat2, old_dir, Arg(old_path), new_dir, Arg(new_path), 0);
}
// -EEXIST when `path` exists; -EINVAL where the file system cannot do that.
inline long RenameNoReplace(const char* old_path, const char* path) {
  constexpr long kNoReplace = 1;  // RENAME_NOREPLACE
  return Call(__NR_renameat2, AT_FDCWD, Arg(old_path), AT_FDCWD, Arg(path), kNoReplace);
}
inline long LinkAt(const char* old_path, const char* path) {
  return Call(__NR_linkat, AT_FDCWD, Arg(old_path), AT_FDCWD, Arg(path), 0);
}
inline long ReadLinkAt(int dir_fd, const char* path, char* out, size_t size) {
  return Call(__NR_readlinkat, dir_fd, Arg(path), Arg(out), static_cast<long>(size));
}
inline long GetDents(int fd, void* out, size_t size) {
  return Call(__NR_getdents64, fd, Arg(out), static_cast<long>(size));
}
// The kernel's struct stat is libc's on both architectures.
inline long Fstat(int fd, struct ::stat* out) { return Call(__NR_fstat, fd, Arg(out)); }
inline long FstatAt(int dir_fd, const char* path, struct ::stat* out, int flags) {
  return Call(__NR_newfstatat, dir_fd, Arg(path), Arg(out), flags);
}

// ---- Processes, threads, time

inline int Getpid() { return static_cast<int>(Call(__NR_getpid)); }
inline int Getppid() { return static_cast<int>(Call(__NR_getppid)); }
inline int Gettid() { return static_cast<int>(Call(__NR_gettid)); }
inline long Tgkill(int pid, int tid, int signal) { return Call(__NR_tgkill, pid, tid, signal); }
inline long SchedYield() { return Call(__NR_sched_yield); }
inline long ClockGettime(int clock, struct ::timespec* out) {
  return Call(__NR_clock_gettime, clock, Arg(out));
}
inline long Nanosleep(const struct ::timespec* duration) {
  return Call(__NR_nanosleep, Arg(duration), 0);
}
inline long GetRandom(void* out, size_t size, unsigned flags) {
  return Call(__NR_getrandom, Arg(out), static_cast<long>(size), static_cast<long>(flags));
}
inline long Prlimit(int resource, const struct ::rlimit* set, struct ::rlimit* get) {
  return Call(__NR_prlimit64, 0, resource, Arg(set), Arg(get));
}
// `set` and `old` are kernel signal sets: 64 bits.
inline long SigProcMask(int how, const uint64_t* set, uint64_t* old) {
  return Call(__NR_rt_sigprocmask, how, Arg(set), Arg(old), 8);
}
inline long FutexWait(const void* word, uint32_t expected, const struct ::timespec* timeout) {
  return Call(__NR_futex, Arg(word), FUTEX_WAIT_PRIVATE, static_cast<long>(expected), Arg(timeout));
}
// Compares the word at `word` with `value`, whether it can be read or not: a futex operation that
// wakes nobody (futex(2), FUTEX_CMP_REQUEUE). Aligned to 4.
enum class WordIs { kEqual, kOther, kUnreadable, kNotTold };
inline WordIs CompareWord(const void* word, uint32_t value) {
  uint32_t other = 0;
  const long result = Call(__NR_futex, Arg(word), FUTEX_CMP_REQUEUE_PRIVATE, 0, 0, Arg(&other),
                           static_cast<long>(value));
  if (result == 0) return WordIs::kEqual;
  if (result == -11 /* EAGAIN */) return WordIs::kOther;
  return result == -14 /* EFAULT */ ? WordIs::kUnreadable : WordIs::kNotTold;
}
inline long FutexWake(const void* word, int threads) {
  return Call(__NR_futex, Arg(word), FUTEX_WAKE_PRIVATE, threads);
}

}  // namespace ollamatrace::sys

#endif  // OLLAMATRACE_PRELOAD_BASE_SYS_H_
