#include "preload/drain/sampler.h"

#include <unistd.h>

#include <cstring>

#include "preload/base/clock.h"
#include "preload/base/sys.h"
#include "preload/base/text.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kCostShare = 100;

// As getdents64(2) lays entries out.
struct DirectoryEntry {
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[1];
};
constexpr size_t kNameOffset = 19;

// The number behind the line's name, or kUnknownGauge.
uint64_t StatusNumber(const char* text, const char* name) {
  const size_t length = TextLength(name);
  for (const char* line = text; *line != '\0';) {
    if (strncmp(line, name, length) == 0 && line[length] == ':') {
      const char* digits = line + length + 1;
      while (*digits == ' ' || *digits == '\t') ++digits;
      const char* end = digits;
      while (*end >= '0' && *end <= '9') ++end;
      uint64_t value;
      return ParseNumber(digits, static_cast<size_t>(end - digits), &value) ? value : kUnknownGauge;
    }
    while (*line != '\0' && *line != '\n') ++line;
    if (*line == '\n') ++line;
  }
  return kUnknownGauge;
}

uint64_t StatusBytes(const char* text, const char* name) {
  const uint64_t kib = StatusNumber(text, name);
  return kib == kUnknownGauge ? kUnknownGauge : kib * 1024;
}

void ReadStatus(SamplerContext* context, SampleRecord* record) {
  const int fd = OpenProcFile(&context->status, context->proc, "status");
  if (fd < 0) return;
  const long size = sys::Pread(fd, context->buffer, sizeof context->buffer - 1, 0);
  if (sys::Failed(size)) return;
  context->buffer[size] = '\0';
  record->rss_anon = StatusBytes(context->buffer, "RssAnon");
  record->rss_file = StatusBytes(context->buffer, "RssFile");
  record->rss_shmem = StatusBytes(context->buffer, "RssShmem");
  record->swap = StatusBytes(context->buffer, "VmSwap");
  record->threads = StatusNumber(context->buffer, "Threads");
}

// readlink asks nobody but the kernel; fstat of a file on a dead server would hang.
bool IsSocket(int folder, const char* name) {
  char target[16];
  const long size = sys::ReadLinkAt(folder, name, target, sizeof target);
  return size >= 7 && !sys::Failed(size) && memcmp(target, "socket:", 7) == 0;
}

void CountFiles(SamplerContext* context, SampleRecord* record) {
  const int folder = OpenProcFile(&context->descriptors, context->proc, "fd", O_DIRECTORY);
  if (folder < 0) return;
  const uint64_t own = (context->status.fd >= 0 ? 1u : 0u) + 1;
  // Since Linux 6.2 the folder's size is the number of open descriptors.
  struct stat info;
  uint64_t told = 0;
  if (!sys::Failed(sys::Fstat(folder, &info))) told = static_cast<uint64_t>(info.st_size);
  if (told > own) record->open_files = told - own;
  if (told > context->max_listed_files) return;
  if (sys::Failed(sys::Call(__NR_lseek, folder, 0, 0 /* SEEK_SET */))) return;
  uint64_t files = 0;
  uint64_t sockets = 0;
  while (true) {
    const long size = sys::GetDents(folder, context->buffer, sizeof context->buffer);
    if (sys::Failed(size)) return;
    if (size == 0) break;
    for (long place = 0; place < size;) {
      DirectoryEntry entry;
      memcpy(&entry, context->buffer + place, kNameOffset);
      const char* const name = context->buffer + place + kNameOffset;
      place += entry.length;
      if (name[0] == '.') continue;
      if (++files > context->max_listed_files) return;
      if (IsSocket(folder, name)) ++sockets;
    }
  }
  record->open_files = files > own ? files - own : 0;
  record->sockets = sockets;
}

void ReadAllocator(const SamplerContext& context, SampleRecord* record) {
  const struct mallinfo2 info = context.mallinfo2();
  record->arena = info.arena;
  record->mmapped = info.hblkhd;
  record->in_use = info.uordblks;
  record->retained = info.fordblks;
  record->trimmable = info.keepcost;
}

// Runs `read` unless it cost too much of late.
template <typename Read>
void WhenDue(uint64_t now_ns, uint64_t* due_ns, Read read) {
  if (now_ns < *due_ns) return;
  const uint64_t before = ThreadCpuNs();
  read();
  *due_ns = now_ns + (ThreadCpuNs() - before) * kCostShare;
}

}  // namespace

void TakeSample(SamplerContext* context, SampleRecord* record) {
  *record = SampleRecord();
  const uint64_t now_ns = MonotonicNs();
  record->time_ns = now_ns;
  WhenDue(now_ns, &context->status_due_ns, [=] { ReadStatus(context, record); });
  WhenDue(now_ns, &context->files_due_ns, [=] { CountFiles(context, record); });
  if (context->mallinfo2 != nullptr) {
    WhenDue(now_ns, &context->allocator_due_ns, [=] { ReadAllocator(*context, record); });
  }
}

void CloseSampler(SamplerContext* context) {
  CloseProcFile(&context->status);
  CloseProcFile(&context->descriptors);
}

}  // namespace ollamatrace
