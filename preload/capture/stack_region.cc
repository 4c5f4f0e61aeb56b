#include "preload/capture/stack_region.h"

#include "preload/base/sys.h"

namespace ollamatrace::capture {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

struct Mapping {
  uintptr_t begin = 0;
  uintptr_t end = 0;
  bool readable = false;
  bool executable = false;
};

// Parses /proc/self/maps as it arrives, in pieces of any size: lines are not kept.
class MapsReader {
 public:
  explicit MapsReader(int fd) : fd_(fd) {}

  bool Next(Mapping* mapping) {
    *mapping = Mapping();
    char c;
    if (!Number(&mapping->begin) || !Number(&mapping->end)) return false;
    if (!Get(&c)) return false;
    mapping->readable = c == 'r';
    if (!Get(&c) || !Get(&c)) return false;
    mapping->executable = c == 'x';
    while (Get(&c) && c != '\n') {
    }
    return true;
  }

 private:
  // A hexadecimal number and the character that ends it.
  bool Number(uintptr_t* value) {
    *value = 0;
    char c;
    int digits = 0;
    while (Get(&c)) {
      const int digit = HexDigit(c);
      if (digit < 0) return digits > 0;
      *value = *value << 4 | static_cast<uintptr_t>(digit);
      ++digits;
    }
    return false;
  }

  bool Get(char* c) {
    if (position_ == size_) {
      const long got = sys::Read(fd_, buffer_, sizeof(buffer_));
      if (got <= 0) return false;
      position_ = 0;
      size_ = static_cast<int>(got);
    }
    *c = buffer_[position_++];
    return true;
  }

  const int fd_;
  int position_ = 0;
  int size_ = 0;
  char buffer_[512];  // on a stack that may be small
};

bool FindMapping(uintptr_t address, Mapping* mapping) {
  const long fd = sys::Open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (sys::Failed(fd)) return false;
  MapsReader reader(static_cast<int>(fd));
  bool found = false;
  while (!found && reader.Next(mapping) && mapping->begin <= address) {
    found = address < mapping->end;
  }
  sys::Close(static_cast<int>(fd));
  return found;
}

enum class Answer { kYes, kNo, kNotTold };

// Whether eight bytes can be read at `address`. With an unknown `how` rt_sigprocmask first copies
// the set in (EFAULT when it cannot), then answers EINVAL. Anything else comes from a seccomp
// filter.
Answer ProbeByKernel(uintptr_t address) {
  constexpr int kNoSuchHow = -1;
  constexpr long kFault = -14;
  constexpr long kInvalid = -22;
  const long result =
      sys::SigProcMask(kNoSuchHow, reinterpret_cast<const uint64_t*>(address), nullptr);
  if (result == kInvalid) return Answer::kYes;
  return result == kFault ? Answer::kNo : Answer::kNotTold;
}

}  // namespace

uintptr_t ReadableUpTo(uintptr_t begin, uintptr_t limit) {
  uintptr_t page = begin;
  while (page < limit) {
    const Answer answer = ProbeByKernel(page);
    if (answer == Answer::kNo) break;
    if (answer == Answer::kYes) {
      page += kPageBytes;
      continue;
    }
    Mapping mapping;
    if (!FindMapping(page, &mapping) || !mapping.readable) break;
    page = mapping.end;
  }
  const uintptr_t end = PageOf(limit + kPageBytes - 1);
  return page < end ? page : end;
}

bool FindExecutableRegion(uintptr_t address, MemoryRegion* region) {
  Mapping mapping;
  if (!FindMapping(address, &mapping) || !mapping.executable) return false;
  region->begin = mapping.begin;
  region->end = mapping.end;
  return true;
}

}  // namespace ollamatrace::capture
