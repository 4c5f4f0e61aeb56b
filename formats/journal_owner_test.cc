#include "formats/journal_owner.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace ollamatrace {
namespace {

// A proc file system with one process, 7, that began at 500 and has /s/a.7.1.journal (8:1, inode
// 99) mapped.
class JournalOwnerTest : public ::testing::Test {
 protected:
  JournalOwnerTest() {
    root_ = absl::StrCat(testing::TempDir(), "/proc");
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_ + "/7/task/7");
    Stat("/7", 'S', 500);
    Maps("/7",
         "7f0000000000-7f0000001000 r-xp 00000000 08:01 5 /lib/libc.so.6\n"
         "7f0000002000-7f0028002000 rw-s 00000000 08:01 99                /s/a.7.1.journal\n");
    owner_.pid = 7;
    owner_.process_start = 500;
    owner_.device = makedev(8, 1);
    owner_.inode = 99;
    owner_.file_name = "a.7.1.journal";
  }

  void Stat(const std::string& process, char state, int start) {
    std::ofstream(root_ + process + "/stat")
        << "7 (a) b (c) " << state << " 1 7 7 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 " << start
        << " 1000 10\n";
  }
  void Maps(const std::string& process, const std::string& text) {
    std::ofstream(root_ + process + "/maps") << text;
  }
  bool Alive() const { return OwnerAlive(owner_, root_); }

  std::string root_;
  JournalOwner owner_;
};

TEST_F(JournalOwnerTest, Alive) { EXPECT_TRUE(Alive()); }

TEST_F(JournalOwnerTest, NoSuchProcess) {
  owner_.pid = 8;
  EXPECT_FALSE(Alive());
  owner_.pid = 0;
  EXPECT_FALSE(Alive());
}

TEST_F(JournalOwnerTest, ThePidIsSomebodyElsesNow) {
  owner_.process_start = 499;
  EXPECT_FALSE(Alive());
}

TEST_F(JournalOwnerTest, AfterExecTheJournalIsNotMapped) {
  Maps("/7", "7f0000000000-7f0000001000 r-xp 00000000 08:01 5 /lib/libc.so.6\n");
  EXPECT_FALSE(Alive());
}

TEST_F(JournalOwnerTest, AnotherFileOfTheSameNumber) {
  Maps("/7", "7f0000000000-7f0000001000 r-xp 00000000 08:02 99 /lib/libc.so.6\n");
  EXPECT_FALSE(Alive());
}

TEST_F(JournalOwnerTest, FileSystemsThatShowAnotherDevice) {
  Maps("/7", "7f0000002000-7f0028002000 rw-s 00000000 00:2a 99 /s/a.7.1.journal\n");
  EXPECT_TRUE(Alive());
}

TEST_F(JournalOwnerTest, UnreadableMaps) {
  std::filesystem::remove(root_ + "/7/maps");
  EXPECT_TRUE(Alive());
  Maps("/7", "");  // opened, and then not permitted
  EXPECT_TRUE(Alive());
  owner_.process_start = 0;
  EXPECT_FALSE(Alive());
}

TEST_F(JournalOwnerTest, UnknownStart) {
  owner_.process_start = 0;
  EXPECT_TRUE(Alive());
}

TEST_F(JournalOwnerTest, Zombies) {
  Stat("/7", 'Z', 500);
  Maps("/7", "");
  EXPECT_FALSE(Alive());
  // The first thread ended, another one runs.
  Stat("/7/task/7", 'Z', 500);
  std::filesystem::create_directories(root_ + "/7/task/9");
  Stat("/7/task/9", 'R', 600);
  Maps("/7/task/9", "7f0000002000-7f0028002000 rw-s 00000000 08:01 99 /s/a.7.1.journal\n");
  EXPECT_TRUE(Alive());
}

TEST_F(JournalOwnerTest, Garbage) {
  for (const char* text :
       {"", "\n", "7", "7 (a", "7 (a) S", "7 (a) S x y z 1 2 3 4 5 6 7 8 9 0 1 2 3 4 x"}) {
    std::ofstream(root_ + "/7/stat") << text;
    EXPECT_FALSE(Alive()) << text;
  }
}

TEST(JournalOwner, ThisProcess) {
  JournalOwner owner;
  owner.pid = static_cast<uint32_t>(getpid());
  struct stat status;
  ASSERT_EQ(stat("/proc/self/exe", &status), 0);
  owner.device = status.st_dev;
  owner.inode = status.st_ino;  // this program is mapped here
  owner.file_name = "journal_owner_test";
  EXPECT_TRUE(OwnerAlive(owner));
  owner.inode = 1;
  EXPECT_FALSE(OwnerAlive(owner));
}

}  // namespace
}  // namespace ollamatrace
