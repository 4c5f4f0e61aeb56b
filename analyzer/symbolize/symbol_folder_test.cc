#include "analyzer/symbolize/symbol_folder.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class SymbolFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(path_);
    ASSERT_TRUE(folder_.Save(Head("one"), answers_).ok());
  }

  static StoredSymbolsHead Head(const std::string& build_id) {
    return {.module = {"/bin/" + build_id, build_id}, .sources = {.dwarf = true}};
  }

  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(path_)) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

  const std::vector<Frame> frames_ = {{"Function", "/src/file.cc", 3, false}};
  const SymbolAnswers answers_ = {{16, frames_}};
  const std::string path_ = testing::TempDir() + "/folder/" +
                            testing::UnitTest::GetInstance()->current_test_info()->name();
  const SymbolFolder folder_{path_};
};

TEST_F(SymbolFolderTest, ModulesAreFoundByBuildIdWhateverTheirPath) {
  const auto stored = folder_.Load({"/elsewhere/copy", "one"});
  ASSERT_NE(stored, nullptr);
  EXPECT_EQ(stored->Find(16)->front().function, "Function");
  EXPECT_EQ(folder_.Load({"/bin/one", "two"}), nullptr);
  EXPECT_EQ(folder_.Load({"/bin/one", ""}), nullptr);
  EXPECT_THAT(Files(), ElementsAre("6f6e65.symbols"));
  EXPECT_EQ(fs::status(path_).permissions(), fs::perms::owner_all);
}

TEST_F(SymbolFolderTest, WithoutABuildIdByPath) {
  StoredSymbolsHead head = Head("");
  head.module.path = "/bin/go";
  ASSERT_TRUE(folder_.Save(head, answers_).ok());
  EXPECT_NE(folder_.Load({"/bin/go", ""}), nullptr);
  EXPECT_EQ(folder_.Load({"/bin/other", ""}), nullptr);
}

TEST_F(SymbolFolderTest, ALongBuildIdHasAShortName) {
  const std::string longest(4096, 'x');
  ASSERT_TRUE(folder_.Save(Head(longest), answers_).ok());
  EXPECT_NE(folder_.Load({"", longest}), nullptr);
}

TEST_F(SymbolFolderTest, ForeignAndDamagedFilesAreNotThere) {
  const std::string file = path_ + "/6f6e65.symbols";
  fs::copy_file(file, path_ + "/74776f.symbols");  // the names of "one" as those of "two"
  EXPECT_EQ(folder_.Load({"", "two"}), nullptr);
  std::ofstream(file) << "#!/bin/sh\n";
  EXPECT_EQ(folder_.Load({"", "one"}), nullptr);
  fs::remove(file);
  fs::create_directory(file);
  EXPECT_EQ(folder_.Load({"", "one"}), nullptr);
  EXPECT_FALSE(folder_.Save(Head("one"), answers_).ok());
  EXPECT_THAT(Files(), UnorderedElementsAre("6f6e65.symbols", "74776f.symbols"));
}

TEST_F(SymbolFolderTest, WhereNothingCanBeWrittenItSaysSo) {
  std::ofstream(path_ + "/file");
  const absl::Status status = SymbolFolder(path_ + "/file/below").Save(Head("one"), answers_);
  EXPECT_THAT(std::string(status.message()), HasSubstr("cannot write " + path_ + "/file/below"));
  EXPECT_EQ(SymbolFolder(path_ + "/none").Load({"", "one"}), nullptr);
  SymbolFolder(path_ + "/none").Shrink(0);
}

// Writers in the way of each other, and readers meanwhile: what is read is always whole.
TEST_F(SymbolFolderTest, WritersAndReadersAtTheSameTime) {
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      bool good = true;
      for (int round = 0; round < 200; ++round) {
        good = good && folder_.Save(Head("one"), answers_).ok();
        const auto stored = folder_.Load({"", "one"});
        good = good && stored != nullptr && stored->Find(16)->front().line == 3;
      }
      _exit(good ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  EXPECT_THAT(Files(), ElementsAre("6f6e65.symbols"));
}

TEST_F(SymbolFolderTest, ShrinksByLastUseAndLeavesOtherFilesAlone) {
  for (const char* id : {"two", "three"}) ASSERT_TRUE(folder_.Save(Head(id), answers_).ok());
  std::ofstream(path_ + "/notes.txt") << "mine";
  std::ofstream(path_ + "/.unfinished-old");
  std::ofstream(path_ + "/.unfinished-new");
  const auto now = fs::file_time_type::clock::now();
  fs::last_write_time(path_ + "/.unfinished-old", now - std::chrono::hours(2));
  int age = 30;
  for (const char* name : {"6f6e65", "74776f", "7468726565"}) {
    fs::last_write_time(path_ + "/" + name + ".symbols", now - std::chrono::hours(age--));
  }
  folder_.Touch({"", "one"});
  const uint64_t size = fs::file_size(path_ + "/6f6e65.symbols");
  folder_.Shrink(size * 2 + size / 2);
  EXPECT_THAT(Files(), UnorderedElementsAre("6f6e65.symbols", "7468726565.symbols", "notes.txt",
                                            ".unfinished-new"));
  folder_.Shrink(0);
  EXPECT_THAT(Files(), UnorderedElementsAre("notes.txt", ".unfinished-new"));
}

}  // namespace
}  // namespace ollamatrace
