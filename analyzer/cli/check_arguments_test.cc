#include "analyzer/cli/check_arguments.h"

#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

absl::Status Parse(const std::vector<std::string>& words, CheckArguments& arguments) {
  std::vector<std::string> paths;
  absl::Status status = ParseArguments(words, CheckOptions(arguments), false, paths);
  return status.ok() ? FinishCheckArguments(paths, arguments) : status;
}

std::string Complaint(const std::vector<std::string>& words) {
  CheckArguments arguments;
  return std::string(Parse(words, arguments).message());
}

std::string WriteTemp(const std::string& name, const std::string& text) {
  const std::string path = testing::TempDir() + "/" + name;
  std::ofstream(path) << text;
  return path;
}

TEST(CheckArguments, FlagsGoBeforeTheFile) {
  const std::string file =
      WriteTemp("budget.yaml", "budgets:\n  peak: 2G\n  growth-per-hour: 1M\n");
  CheckArguments arguments;
  const absl::Status status =
      Parse({"--peak=1G", "--budget", file, "--recovery-time=off", "trace"}, arguments);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(arguments.budgets[BudgetKind::kPeak], 1 << 30);
  EXPECT_EQ(arguments.budgets[BudgetKind::kGrowthPerHour], 1 << 20);
  EXPECT_EQ(arguments.budgets[BudgetKind::kRecoveryTime], std::nullopt);
  EXPECT_EQ(arguments.budgets[BudgetKind::kRetainedAfterLoad], 50 << 20);
  EXPECT_THAT(arguments.source_root, StartsWith("/"));
}

TEST(CheckArguments, Contradictions) {
  EXPECT_EQ(Complaint({"--peak=1G", "--peak=2G"}),
            "--peak=2G: contradicts --peak=1G, given before");
  EXPECT_THAT(Complaint({"--budget=a", "--budget=b"}), HasSubstr("contradicts a"));
  EXPECT_THAT(Complaint({"--write=junit=x", "--write=sarif=x"}), HasSubstr("the same file"));
  const std::string trace = WriteTemp("trace", "");
  EXPECT_THAT(Complaint({trace, "--baseline=" + testing::TempDir() + "/./trace"}),
              HasSubstr("is what is to be checked"));
  std::vector<std::string> off;
  for (const BudgetSpec& spec : BudgetSpecs()) {
    off.push_back(std::string("--") + spec.name + "=off");
  }
  EXPECT_THAT(Complaint(off), HasSubstr("every budget is off"));
  CheckArguments twice;
  EXPECT_TRUE(Parse({"--peak=1G", "--peak=1G"}, twice).ok());
}

TEST(CheckArguments, BadValues) {
  EXPECT_THAT(Complaint({"--peak=much"}), StartsWith("--peak=much: not a size"));
  EXPECT_THAT(Complaint({"--format=html"}), HasSubstr("give text, markdown, junit"));
  EXPECT_THAT(Complaint({"--write=junit"}), HasSubstr("FORMAT=FILE"));
  EXPECT_THAT(Complaint({"--write=xml=a"}), HasSubstr("not known"));
  EXPECT_THAT(Complaint({"--budget=/no/such.yaml"}), HasSubstr("/no/such.yaml: No such file"));
  EXPECT_THAT(Complaint({"--suppressions=" + WriteTemp("s.txt", "race:x\n")}),
              HasSubstr("s.txt:1: unknown type \"race\""));
  EXPECT_THAT(Complaint({"--budget=" + WriteTemp("bad.yaml", "budgets:\n  peek: 1\n")}),
              HasSubstr("bad.yaml:2: unknown key \"peek\"; did you mean \"peak\"?"));
}

TEST(CheckArguments, SuppressionsOfBothFiles) {
  const std::string yaml = WriteTemp("s.yaml", "suppressions: [\"leak:a\"]\n");
  const std::string lsan = WriteTemp("lsan.supp", "leak:b\nleak:c\n");
  CheckArguments arguments;
  ASSERT_TRUE(Parse({"--budget=" + yaml, "--suppressions=" + lsan}, arguments).ok());
  EXPECT_THAT(arguments.suppressions, SizeIs(3));
}

}  // namespace
}  // namespace ollamatrace
