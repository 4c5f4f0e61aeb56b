#include "analyzer/gate/budget.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

TEST(Budgets, StandardOnesAreTheDocumentedOnes) {
  const Budgets budgets = StandardBudgets();
  EXPECT_EQ(budgets[BudgetKind::kGrowthPerRequest], 1 << 20);
  EXPECT_EQ(budgets[BudgetKind::kMemoryPerRequest], 50 << 20);
  EXPECT_EQ(budgets[BudgetKind::kGrowthPerHour], 10 << 20);
  EXPECT_EQ(budgets[BudgetKind::kRetainedAfterLoad], 50 << 20);
  EXPECT_EQ(budgets[BudgetKind::kRetainedAfterUnload], 100 << 20);
  EXPECT_EQ(budgets[BudgetKind::kRecoveryTime], 300);
  EXPECT_EQ(budgets[BudgetKind::kPeak], std::nullopt);
  for (size_t i = 0; i < kBudgetKinds; ++i) {
    EXPECT_EQ(static_cast<size_t>(BudgetSpecs()[i].kind), i);
  }
}

TEST(Budgets, ReadsAll) {
  Budgets budgets = StandardBudgets();
  const absl::Status status = ReadBudgets("budget.yaml",
                                          "# what a request may cost\n"
                                          "budgets:\n"
                                          "  growth-per-request: 64K\n"
                                          "  peak: 4G\n"
                                          "  recovery-time: 5min\n"
                                          "  fragmentation: 30%\n"
                                          "  growth-per-hour: off\n"
                                          "  open-files-growth: 7\n"
                                          "stacks:\n"
                                          "  - name: prompts\n"
                                          "    function: LeakPrompt\n"
                                          "    bytes: 1M\n"
                                          "  - module: libggml\n"
                                          "    growth-per-request: 0\n"
                                          "suppressions:\n"
                                          "  - leak:Known*Leak\n",
                                          budgets);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(budgets[BudgetKind::kGrowthPerRequest], 65536);
  EXPECT_EQ(budgets[BudgetKind::kPeak], 4.0 * (1 << 30));
  EXPECT_EQ(budgets[BudgetKind::kRecoveryTime], 300);
  EXPECT_DOUBLE_EQ(*budgets[BudgetKind::kFragmentation], 0.3);
  EXPECT_EQ(budgets[BudgetKind::kGrowthPerHour], std::nullopt);
  EXPECT_EQ(budgets[BudgetKind::kOpenFilesGrowth], 7);
  EXPECT_EQ(budgets[BudgetKind::kRetainedAfterLoad], 50 << 20);  // as it was
  ASSERT_THAT(budgets.stacks, SizeIs(2));
  EXPECT_EQ(budgets.stacks[0].name, "prompts");
  EXPECT_EQ(budgets.stacks[0].bytes, 1 << 20);
  EXPECT_EQ(budgets.stacks[1].name, "libggml");
  EXPECT_EQ(budgets.stacks[1].growth_per_request, 0);
  EXPECT_THAT(budgets.suppressions, ElementsAre("leak:Known*Leak"));
}

TEST(Budgets, AnEmptyFileChangesNothing) {
  Budgets budgets = StandardBudgets();
  EXPECT_TRUE(ReadBudgets("b.yaml", "# nothing\n", budgets).ok());
  EXPECT_EQ(budgets.limits, StandardBudgets().limits);
}

std::string Complaint(const std::string& text) {
  Budgets budgets;
  return std::string(ReadBudgets("b.yaml", text, budgets).message());
}

TEST(Budgets, BadKeysAreNamedWithTheNearestOne) {
  EXPECT_EQ(Complaint("budgets:\n  growth_per_requests: 1M\n"),
            "b.yaml:2: unknown key \"growth_per_requests\"; did you mean \"growth-per-request\"?");
  EXPECT_EQ(Complaint("\nbudget:\n  peak: 1M\n"),
            "b.yaml:2: unknown key \"budget\"; did you mean \"budgets\"?");
  EXPECT_EQ(Complaint("stacks:\n  - func: x\n    bytes: 1\n"),
            "b.yaml:2: unknown key \"func\"; did you mean \"function\"?");
}

TEST(Budgets, OtherMistakes) {
  EXPECT_THAT(Complaint("budgets:\n  peak: banana\n"), StartsWith("b.yaml:2: peak: banana: not"));
  EXPECT_THAT(Complaint("budgets:\n  peak: [1, 2]\n"), HasSubstr("one value"));
  EXPECT_THAT(Complaint("budgets:\n  fragmentation: 130%\n"), HasSubstr("not a share"));
  EXPECT_THAT(Complaint("budgets:\n  leak-confidence: 2\n"), HasSubstr("from 0 to 1"));
  EXPECT_THAT(Complaint("budgets:\n  recovery-time: soon\n"), HasSubstr("not a time"));
  EXPECT_THAT(Complaint("budgets:\n  open-files-growth: -1\n"), HasSubstr("not a number"));
  EXPECT_THAT(Complaint("budgets:\n  peak: 1M\n  peak: 2M\n"), HasSubstr("b.yaml:3: \"peak\" is"));
  EXPECT_THAT(Complaint("budgets: 5\n"), HasSubstr("has to be a map"));
  EXPECT_THAT(Complaint("- a\n- b\n"), HasSubstr("has to be a map"));
  EXPECT_THAT(Complaint("stacks:\n  - name: x\n    bytes: 1\n"), HasSubstr("needs a function"));
  EXPECT_THAT(Complaint("stacks:\n  - function: x\n"), HasSubstr("needs bytes"));
  EXPECT_THAT(Complaint("stacks: x\n"), HasSubstr("has to be a list"));
  EXPECT_THAT(Complaint("suppressions:\n  - leek:x\n"), HasSubstr("did you mean \"leak\"?"));
  EXPECT_THAT(Complaint("suppressions:\n  - leak: x\n"), HasSubstr("one text"));
  EXPECT_THAT(Complaint("budgets:\n  peak: @1M\n"), HasSubstr("not YAML"));
  EXPECT_THAT(Complaint("budgets: {peak: 1M"), HasSubstr("not YAML"));
  EXPECT_THAT(Complaint("a: &a [*a, *b]\n"), HasSubstr("not YAML"));
}

}  // namespace
}  // namespace ollamatrace
