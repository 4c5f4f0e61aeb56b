#include "analyzer/cli/soak_arguments.h"

#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Complaint(const std::vector<std::string>& words) {
  SoakArguments arguments;
  return std::string(ParseSoakArguments(words, arguments).message());
}

std::string WriteTemp(const std::string& text) {
  const std::string path = testing::TempDir() + "/plan.yaml";
  std::ofstream(path) << text;
  return path;
}

TEST(SoakArguments, FlagsGoBeforeThePlan) {
  const std::string plan =
      WriteTemp("model: tiny\nworkers: 4\nphases:\n  - {name: steady, requests: 5}\n");
  SoakArguments arguments;
  const absl::Status status = ParseSoakArguments(
      {"--workers=8", "--plan", plan, "--peak=1G", "--", "serve", "--workers=1"}, arguments);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(arguments.soak.plan.workers, 8u);
  EXPECT_EQ(arguments.soak.plan.model, "tiny");
  EXPECT_THAT(arguments.soak.plan.phases, testing::SizeIs(1));
  EXPECT_THAT(arguments.command, ElementsAre("serve", "--workers=1"));
  EXPECT_EQ(arguments.check.flags.at("peak"), "1G");
}

TEST(SoakArguments, Standard) {
  SoakArguments arguments;
  ASSERT_TRUE(ParseSoakArguments({"--server=llama-server", "--", "llama-server"}, arguments).ok());
  EXPECT_EQ(arguments.soak.plan.api, Api::kOpenAiCompletion);
  EXPECT_EQ(arguments.soak.plan.model, "default");
  EXPECT_EQ(arguments.soak.plan.phases.back().name, "unload");
  SoakArguments other;
  ASSERT_TRUE(
      ParseSoakArguments({"--server=llama-server", "--url=http://127.0.0.1:1", "-o", "dir"}, other)
          .ok());
  EXPECT_EQ(other.soak.plan.phases.back().name, "idle");
}

TEST(SoakArguments, Contradictions) {
  EXPECT_THAT(Complaint({"--model=m"}), HasSubstr("no server"));
  EXPECT_THAT(Complaint({"--model=m", "--url=u", "-o", "d", "--", "x"}),
              HasSubstr("one or the other"));
  EXPECT_THAT(Complaint({"--model=m", "--url=u"}), HasSubstr("-o DIR"));
  EXPECT_THAT(Complaint({"--model=m", "--url=u", "-o", "d", "--port=5"}), HasSubstr("--port"));
  EXPECT_THAT(Complaint({"--model=m", "--url=u", "-o", "d", "--mode=full"}), HasSubstr("--mode"));
  EXPECT_THAT(Complaint({"--", "serve"}), HasSubstr("--model=NAME"));
  EXPECT_THAT(Complaint({"--server=llama-server", "--url=u", "-o", "d", "--cycles=2"}),
              HasSubstr("by ending"));
  EXPECT_THAT(Complaint({"--server=llama-server", "--api=chat", "--", "x"}), HasSubstr("--api"));
  const std::string plan = WriteTemp("model: m\nphases:\n  - {name: steady, requests: 5}\n");
  EXPECT_THAT(Complaint({"--plan", plan, "--idle=5s", "--", "x"}), HasSubstr("--plan has phases"));
  EXPECT_THAT(Complaint({"--port=70000", "--", "x"}), HasSubstr("not a port"));
  EXPECT_THAT(Complaint({"--workers=0", "--", "x"}), HasSubstr("has to be 1"));
  EXPECT_THAT(Complaint({"--mode=banana", "--", "x"}), HasSubstr("not known"));
  EXPECT_THAT(Complaint({"--plan=/no/such", "--", "x"}), HasSubstr("/no/such"));
  EXPECT_THAT(Complaint({"--model=m", "--", "x"}), IsEmpty());
}

}  // namespace
}  // namespace ollamatrace
