#include "preload/journal/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

class JournalTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) {
    const std::string path = ::testing::TempDir() + "/journal_test." + name;
    unlink(path.c_str());
    return path;
  }
  static uint64_t Blocks(const std::string& path) {
    struct stat info;
    return stat(path.c_str(), &info) == 0 ? static_cast<uint64_t>(info.st_blocks) * 512 : 0;
  }
};

TEST_F(JournalTest, IsSparsePrivateAndKeepsWhatIsStored) {
  const std::string path = Path("keeps");
  static Journal journal;
  ASSERT_EQ(CreateJournal(&journal, path.c_str()), 0);
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_size, static_cast<off_t>(kJournalBytes));
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_LE(Blocks(path), kReserveStep * 2);
  ASSERT_TRUE(ReserveJournal(&journal, kNodesOffset + kReserveStep - 8, 16));
  journal.base[kNodesOffset + kReserveStep] = 42;
  CloseJournal(&journal, false);
  const int fd = open(path.c_str(), O_RDONLY);
  uint8_t stored = 0;
  EXPECT_EQ(pread(fd, &stored, 1, kNodesOffset + kReserveStep), 1);
  EXPECT_EQ(stored, 42);
  close(fd);
}

TEST_F(JournalTest, AnExistingFileIsNotTouched) {
  const std::string path = Path("exists");
  const int fd = open(path.c_str(), O_CREAT | O_WRONLY, 0600);
  ASSERT_EQ(write(fd, "mine", 4), 4);
  static Journal journal;
  EXPECT_EQ(CreateJournal(&journal, path.c_str()), -EEXIST);
  EXPECT_EQ(journal.base, nullptr);
  struct stat info;
  fstat(fd, &info);
  EXPECT_EQ(info.st_size, 4);
  close(fd);
}

TEST_F(JournalTest, UnreservedStepsCannotBePulledIn) {
  const std::string path = Path("mlock");
  static Journal journal;
  ASSERT_EQ(CreateJournal(&journal, path.c_str()), 0);
  const uint64_t before = Blocks(path);
  // What mlockall does to every mapping. It may not be permitted; it must not allocate either way.
  (void)!mlock(journal.base, 64u << 20);
  EXPECT_EQ(Blocks(path), before);
  munlock(journal.base, 64u << 20);
  CloseJournal(&journal, true);
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

TEST_F(JournalTest, ReservesWithItsDescriptorClosedOrTaken) {
  const std::string path = Path("closed");
  static Journal journal;
  ASSERT_EQ(CreateJournal(&journal, path.c_str()), 0);
  close(journal.file.fd);
  EXPECT_TRUE(ReserveJournal(&journal, kPoolOffset, 100));
  // The number is given to another file, which must not be written to.
  const std::string other = Path("other");
  const int fd = open(other.c_str(), O_CREAT | O_RDWR, 0600);
  ASSERT_EQ(dup2(fd, journal.file.fd), journal.file.fd);
  EXPECT_TRUE(ReserveJournal(&journal, kPoolOffset + 4 * kReserveStep, 100));
  memset(journal.base + kPoolOffset + 4 * kReserveStep, 1, 100);
  struct stat info;
  fstat(fd, &info);
  EXPECT_EQ(info.st_size, 0);
  close(fd);
  CloseJournal(&journal, true);
}

TEST_F(JournalTest, OutOfReachIsAnErrorAndNoSignal) {
  const std::string path = Path("gone");
  static Journal journal;
  ASSERT_EQ(CreateJournal(&journal, path.c_str()), 0);
  unlink(path.c_str());
  close(journal.file.fd);
  EXPECT_FALSE(ReserveJournal(&journal, kPoolOffset, 100));
  CloseJournal(&journal, true);
}

// With SIGXFSZ as it is by default: it would end the process.
bool LimitIsRespected(const char* journal_path, const char* file_path) {
  const struct rlimit limit = {1u << 20, 1u << 20};
  setrlimit(RLIMIT_FSIZE, &limit);
  static Journal journal;
  OwnFile file;
  const char byte = 1;
  return CreateJournal(&journal, journal_path) == -EFBIG && CreateOwnFile(&file, file_path) == 0 &&
         WriteOwnFile(&file, &byte, 1, (1u << 20) - 1) == 0 &&
         WriteOwnFile(&file, &byte, 1, 1u << 20) == -EFBIG;
}

TEST_F(JournalTest, ALimitOnFileSizesIsAnErrorAndNoSignal) {
  const std::string journal_path = Path("limit");
  const std::string file_path = Path("small");
  ASSERT_EXIT(_exit(LimitIsRespected(journal_path.c_str(), file_path.c_str()) ? 0 : 1),
              ::testing::ExitedWithCode(0), "");
}

TEST_F(JournalTest, ThreadsReserveTheSameSteps) {
  static Journal journal;
  ASSERT_EQ(CreateJournal(&journal, Path("threads").c_str()), 0);
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&failures, t] {
      for (uint64_t i = 0; i < 200; ++i) {
        const uint64_t offset = kNodesOffset + i * kReserveStep / 2;
        if (!ReserveJournal(&journal, offset, 64)) ++failures;
        journal.base[offset + static_cast<uint64_t>(t)] = static_cast<uint8_t>(i + 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures.load(), 0);
  for (uint64_t i = 0; i < 200; ++i) {
    for (uint64_t t = 0; t < 4; ++t) {
      ASSERT_EQ(journal.base[kNodesOffset + i * kReserveStep / 2 + t], static_cast<uint8_t>(i + 1));
    }
  }
  CloseJournal(&journal, true);
}

}  // namespace
}  // namespace ollamatrace
