#include "analyzer/load/session.h"

#include <sys/stat.h>

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
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class SessionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) /
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }

  std::string Write(const std::string& name, const std::string& text = "x") {
    const fs::path path = folder_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }

  static std::vector<std::string> Names(const Session& session) {
    std::vector<std::string> names;
    for (const TraceFile& trace : session.traces) {
      names.push_back(fs::path(trace.path).filename().string());
    }
    return names;
  }

  fs::path folder_;
};

// All files of a process are one trace.
TEST_F(SessionTest, Segments) {
  Write("a.1.1.live3.zst");
  Write("a.1.1.s3.zst");
  Write("a.1.1.s4.zst");
  Write("a.1.1.live4.tmp");
  Write("a.1.1.journal");
  Write("b.2.1.zst");
  Write("b.2.1.s1.zst");
  EXPECT_THAT(FindSession({folder_.string()}).traces, SizeIs(2));
  const Session one = FindSession({(folder_ / "a.1.1.s4.zst").string()});
  EXPECT_THAT(Names(one), ElementsAre("a.1.1.s4.zst"));
  EXPECT_TRUE(one.traces[0].named);
  EXPECT_THAT(FindSession({(folder_ / "a.1.1.s4.zst").string(),
                           (folder_ / "a.1.1.live3.zst").string(), folder_.string()})
                  .traces,
              SizeIs(2));
}

TEST_F(SessionTest, AFolderOfTraces) {
  Write("b.2.1.zst");
  Write("a.1.1.zst");
  Write("a.1.1.journal");
  Write("c.3.1.journal");
  Write("readme.txt");
  Write("a.1.1.log", "first line\n\n  second line\n");
  Write("server.log", "not the library's\n");
  Write("marks.jsonl", "{\"t\":5,\"mark\":\"request\"}\nnonsense\n");
  const Session session = FindSession({folder_.string()});
  EXPECT_THAT(Names(session), ElementsAre("a.1.1.zst", "b.2.1.zst", "c.3.1.journal"));
  EXPECT_FALSE(session.traces[0].named);
  EXPECT_THAT(session.marks, SizeIs(1));
  EXPECT_THAT(session.notes, ElementsAre("a.1.1.log: first line", "a.1.1.log: second line",
                                         EndsWith("1 lines are no marks and were skipped")));
  EXPECT_THAT(session.errors, IsEmpty());
}

TEST_F(SessionTest, AFolderOfFolders) {
  Write("one/a.1.1.zst");
  Write("two/b.1.1.zst");
  Write("two/marks.jsonl", "{\"t\":7,\"mark\":\"x\"}");
  Write("deep/er/c.1.1.zst");
  const Session session = FindSession({folder_.string()});
  EXPECT_THAT(Names(session), ElementsAre("a.1.1.zst", "b.1.1.zst"));
  EXPECT_THAT(session.marks, SizeIs(1));
}

TEST_F(SessionTest, NoFileTwice) {
  const std::string trace = Write("a.1.1.zst");
  const std::string journal = Write("a.1.1.journal");
  Write("marks.jsonl", "{\"t\":7,\"mark\":\"x\"}");
  const Session session =
      FindSession({trace, journal, folder_.string(), (folder_ / "." / "a.1.1.zst").string()});
  EXPECT_THAT(Names(session), ElementsAre("a.1.1.zst"));
  EXPECT_TRUE(session.traces[0].named);
  EXPECT_THAT(session.marks, SizeIs(1));
}

TEST_F(SessionTest, MarksOfSeveralFoldersByTime) {
  Write("one/a.1.1.zst");
  Write("two/b.1.1.zst");
  Write("one/marks.jsonl", "{\"t\":9,\"mark\":\"late\"}");
  Write("two/marks.jsonl", "{\"t\":7,\"mark\":\"early\"}");
  const Session session = FindSession({(folder_ / "one").string(), (folder_ / "two").string()});
  ASSERT_THAT(session.marks, SizeIs(2));
  EXPECT_EQ(session.marks[0].name, "early");
}

TEST_F(SessionTest, WhatLeadsToNothingIsAnErrorOfOneLine) {
  fs::create_directories(folder_ / "empty");
  const std::string pipe = (folder_ / "pipe.zst").string();
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const Session session = FindSession(
      {(folder_ / "missing.zst").string(), (folder_ / "empty").string(), pipe, "/dev/null"});
  EXPECT_THAT(session.traces, IsEmpty());
  ASSERT_THAT(session.errors, SizeIs(4));
  EXPECT_THAT(std::string(session.errors[0].message()), HasSubstr("missing.zst: no such file"));
  EXPECT_THAT(std::string(session.errors[1].message()), HasSubstr("holds no traces"));
  EXPECT_THAT(std::string(session.errors[2].message()), HasSubstr("not a regular file"));
  for (const absl::Status& error : session.errors) {
    EXPECT_EQ(error.message().find('\n'), absl::string_view::npos);
  }
}

TEST_F(SessionTest, LongLogsAreCut) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "line\n";
  Write("a.1.1.zst");
  Write("a.1.1.log", text);
  const Session session = FindSession({folder_.string()});
  EXPECT_THAT(session.notes, SizeIs(21));
  EXPECT_THAT(session.notes.back(), HasSubstr("and more"));
}

}  // namespace
}  // namespace ollamatrace
