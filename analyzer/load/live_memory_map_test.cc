#include "analyzer/load/live_memory_map.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "formats/journal_layout.h"
#include "formats/memory_map.h"

namespace ollamatrace {
namespace {

TEST(LiveMemoryMapTest, TellsThePagesOfAnotherProcess) {
  constexpr size_t kBytes = 1 << 20;
  char* const memory = static_cast<char*>(
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  madvise(memory, kBytes, MADV_NOHUGEPAGE);
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    memory[0] = memory[5 * 4096] = 1;
    if (write(ready[1], "x", 1) != 1) _exit(1);
    while (true) pause();
  }
  char x;
  ASSERT_EQ(read(ready[0], &x, 1), 1);
  const absl::StatusOr<std::string> body = ReadLiveMemoryMap(static_cast<uint32_t>(child));
  ASSERT_TRUE(body.ok()) << body.status();
  const absl::StatusOr<MemoryMap> map = DecodeMemoryMap(1, 4096, *body);
  ASSERT_TRUE(map.ok()) << map.status();
  const uint64_t begin = reinterpret_cast<uint64_t>(memory);
  uint64_t held = 0;
  for (const MemoryArea& area : map->areas) {
    for (const PageRun& run : area.runs) {
      for (uint64_t page = run.begin; page < run.end; page += 4096) {
        if (page >= begin && page < begin + kBytes) held += 1;
      }
    }
  }
  EXPECT_EQ(held, 2u);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(ReadLiveMemoryMap(static_cast<uint32_t>(child)).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(LiveMemoryMapTest, TellsTheTracersMappingsByItsOwnList) {
  static OwnMappings own;
  own.list[0].begin = 0x10000;
  own.list[0].length = 0x2000;
  own.list[2].begin = 0x40000;  // the second one is being added
  own.list[2].length = 0x1000;
  own.used = 3;
  const auto pid = static_cast<uint32_t>(getpid());
  const absl::StatusOr<std::string> body = ReadLiveMemoryMap(pid, reinterpret_cast<uint64_t>(&own));
  ASSERT_TRUE(body.ok()) << body.status();
  const absl::StatusOr<MemoryMap> map = DecodeMemoryMap(1, 4096, *body);
  ASSERT_TRUE(map.ok()) << map.status();
  ASSERT_EQ(map->own.size(), 2u);
  EXPECT_EQ(map->own[0].begin, 0x10000u);
  EXPECT_EQ(map->own[0].end, 0x12000u);
  EXPECT_EQ(map->own[1].begin, 0x40000u);
  // An address that is none, and a file that is no journal.
  EXPECT_TRUE(ReadLiveMemoryMap(pid, 8).ok());
  EXPECT_EQ(OwnMappingsAddress("/proc/self/maps"), 0u);
  EXPECT_EQ(OwnMappingsAddress("/nowhere.journal"), 0u);
}

// The pages of a fork's child are all its parent's, and some are the page of zeros.
TEST(LiveMemoryMapTest, ACopyHoldsAllThatItsParentHeld) {
  constexpr size_t kBytes = 1 << 20;
  volatile char* const memory = static_cast<volatile char*>(
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  madvise(const_cast<char*>(memory), kBytes, MADV_NOHUGEPAGE);
  memory[200 * 4096] = 1;
  for (size_t page = 0; page < 100; ++page) EXPECT_EQ(memory[page * 4096], 0);
  const pid_t child = fork();
  if (child == 0) {
    while (true) pause();
  }
  const absl::StatusOr<std::string> body = ReadCopyMemoryMap(static_cast<uint32_t>(child));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  ASSERT_TRUE(body.ok()) << body.status();
  const absl::StatusOr<MemoryMap> map = DecodeMemoryMap(1, 4096, *body);
  ASSERT_TRUE(map.ok()) << map.status();
  const uint64_t wanted = reinterpret_cast<uint64_t>(memory) + 200 * 4096;
  bool found = false;
  for (const MemoryArea& area : map->areas) {
    for (const PageRun& run : area.runs) found |= run.begin <= wanted && wanted < run.end;
  }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace ollamatrace
