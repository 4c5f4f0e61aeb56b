#include "preload/capture/stack_region.h"

#include "preload/base/sys.h"

namespace ollamatrace::capture {
namespace {

constexpr uintptr_t kPage = 4096;  // the smallest page: larger ones are probed in more steps
constexpr uintptr_t kMainStackReach = uintptr_t{8} << 20;  // what RLIMIT_STACK is by default
constexpr int kMaxProbedPages = 256;

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
  bool main_stack = false;
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
    // The rest of the line matters only in how it ends.
    static constexpr char kStackName[] = "[stack]";
    int matched = 0;
    while (Get(&c) && c != '\n') {
      if (kStackName[matched] == c) {
        ++matched;
        if (kStackName[matched] == '\0') {
          mapping->main_stack = true;
          matched = 0;
        }
      } else {
        matched = c == '[' ? 1 : 0;
      }
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
  char buffer_[1024];
};

// The main thread's stack grows on demand: nothing else can be mapped within its limit.
uintptr_t LowestMainStackAddress(const Mapping& stack, uintptr_t previous_end) {
  const uintptr_t reach = stack.end > kMainStackReach ? stack.end - kMainStackReach : 0;
  const uintptr_t lowest = previous_end > reach ? previous_end : reach;
  return lowest < stack.begin ? lowest : stack.begin;
}

// 1 found, 0 not mapped so, -1 the list cannot be read.
int SearchMaps(uintptr_t address, bool executable, MemoryRegion* region) {
  const long fd = sys::Open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (sys::Failed(fd)) return -1;
  MapsReader reader(static_cast<int>(fd));
  Mapping mapping;
  MemoryRegion found;
  uintptr_t previous_end = 0;
  int lines = 0;
  while (reader.Next(&mapping)) {
    ++lines;
    const bool wanted = executable ? mapping.executable : mapping.readable;
    if (found.end != 0) {
      if (executable || !wanted || mapping.begin != found.end) break;
      found.end = mapping.end;
      continue;
    }
    const uintptr_t begin =
        mapping.main_stack ? LowestMainStackAddress(mapping, previous_end) : mapping.begin;
    if (wanted && address >= begin && address < mapping.end) {
      found.begin = begin;
      found.end = mapping.end;
    }
    previous_end = mapping.end;
  }
  sys::Close(static_cast<int>(fd));
  if (found.end != 0) {
    *region = found;
    return 1;
  }
  return lines > 0 ? 0 : -1;
}

}  // namespace

bool IsReadable(uintptr_t address) {
  // With an unknown `how` the kernel first copies the set in (EFAULT when it cannot), then answers EINVAL.
  constexpr int kNoSuchHow = -1;
  constexpr long kFault = -14;
  return sys::SigProcMask(kNoSuchHow, reinterpret_cast<const uint64_t*>(address), nullptr) !=
         kFault;
}

bool FindReadableRegion(uintptr_t address, MemoryRegion* region) {
  const int found = SearchMaps(address, false, region);
  if (found >= 0) return found == 1;
  uintptr_t page = address & ~(kPage - 1);
  if (page == 0 || !IsReadable(page)) return false;
  region->begin = page;
  for (int i = 0; i < kMaxProbedPages && IsReadable(page); ++i) page += kPage;
  region->end = page;
  return true;
}

bool FindExecutableRegion(uintptr_t address, MemoryRegion* region) {
  return SearchMaps(address, true, region) == 1;
}

}  // namespace ollamatrace::capture
