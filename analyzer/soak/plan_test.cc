#include "analyzer/soak/plan.h"

#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using Action = SoakPhase::Action;

std::vector<std::string> Names(const std::vector<SoakPhase>& phases) {
  std::vector<std::string> names;
  for (const SoakPhase& phase : phases) names.push_back(phase.name);
  return names;
}

TEST(Plan, StandardPhases) {
  const auto phases = MakePhases({.cycles = 2});
  EXPECT_THAT(Names(phases), ElementsAre("load", "warm-up", "steady", "idle", "unload", "reload",
                                         "warm-up", "steady", "idle", "unload"));
  EXPECT_EQ(phases[2].seconds, 60);
  EXPECT_EQ(phases[0].action, Action::kLoad);
  EXPECT_EQ(phases[4].action, Action::kUnload);
  EXPECT_EQ(phases[5].action, Action::kLoad);
  const auto few = MakePhases({.warm_up_seconds = 0, .steady_requests = 100, .idle_seconds = 0});
  EXPECT_THAT(Names(few), ElementsAre("load", "steady", "unload"));
  EXPECT_EQ(few[1].seconds, std::nullopt);
  EXPECT_EQ(few[1].requests, 100u);
}

TEST(Plan, ActionsOfNames) {
  EXPECT_EQ(ActionOf("load"), Action::kLoad);
  EXPECT_EQ(ActionOf("reload"), Action::kLoad);
  EXPECT_EQ(ActionOf("Unload"), Action::kUnload);
  EXPECT_EQ(ActionOf("long idle"), Action::kIdle);
  EXPECT_EQ(ActionOf("steady load"), Action::kDrive);
  EXPECT_EQ(ActionOf("warm-up"), Action::kDrive);
}

TEST(Plan, ReadsAll) {
  SoakPlan plan;
  StandardPhases standard;
  const absl::Status status = ReadPlan("soak.yaml",
                                       "server: llama-server\n"
                                       "model: tiny\n"
                                       "api: openai-chat\n"
                                       "stream: true\n"
                                       "workers: 4\n"
                                       "rate: 30/min\n"
                                       "tokens: 8\n"
                                       "prompts: mixed\n"
                                       "prompt-words: 20\n"
                                       "phases:\n"
                                       "  - name: load\n"
                                       "  - name: warm-up\n"
                                       "    requests: 20\n"
                                       "  - name: steady\n"
                                       "    duration: 10min\n"
                                       "    workers: 8\n"
                                       "    rate: 5\n"
                                       "  - {name: idle, duration: 90s}\n"
                                       "  - name: unload\n",
                                       plan, standard);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(plan.server, ServerKind::kLlamaServer);
  EXPECT_EQ(plan.api, Api::kOpenAiChat);
  EXPECT_TRUE(plan.stream);
  EXPECT_EQ(plan.rate, 0.5);
  EXPECT_EQ(plan.prompts.kind, PromptKind::kMixed);
  ASSERT_THAT(plan.phases, SizeIs(5));
  EXPECT_EQ(plan.phases[1].requests, 20u);
  EXPECT_EQ(plan.phases[2].seconds, 600);
  EXPECT_EQ(plan.phases[2].workers, 8u);
  EXPECT_EQ(plan.phases[3].action, Action::kIdle);
}

std::string Complaint(const std::string& text) {
  SoakPlan plan;
  StandardPhases standard;
  return std::string(ReadPlan("s.yaml", text, plan, standard).message());
}

TEST(Plan, StandardPhasesInAFile) {
  SoakPlan plan;
  StandardPhases standard;
  const absl::Status status = ReadPlan("s.yaml",
                                       "warm-up: 20s\n"
                                       "duration: 1h\n"
                                       "idle: 1min\n"
                                       "settle: 0\n"
                                       "cycles: 3\n",
                                       plan, standard);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_THAT(plan.phases, SizeIs(0));
  EXPECT_EQ(standard.warm_up_seconds, 20);
  EXPECT_EQ(standard.steady_seconds, 3600);
  EXPECT_EQ(standard.idle_seconds, 60);
  EXPECT_EQ(standard.settle_seconds, 0);
  EXPECT_EQ(standard.cycles, 3u);
}

TEST(Plan, Mistakes) {
  EXPECT_EQ(Complaint("worker: 4\n"),
            "s.yaml:1: unknown key \"worker\"; did you mean \"workers\"?");
  EXPECT_EQ(Complaint("phases:\n  - name: steady\n    durations: 5s\n"),
            "s.yaml:3: unknown key \"durations\"; did you mean \"duration\"?");
  EXPECT_THAT(Complaint("phases:\n  - name: steady\n"), HasSubstr("needs a duration or requests"));
  EXPECT_THAT(Complaint("phases:\n  - duration: 5s\n"), HasSubstr("needs a name"));
  EXPECT_THAT(Complaint("phases:\n  - {name: load, requests: 5}\n"),
              HasSubstr("sends no requests"));
  EXPECT_THAT(Complaint("phases:\n  - name: idle\n"), HasSubstr("needs a duration"));
  EXPECT_THAT(Complaint("server: vllm\n"), HasSubstr("s.yaml:1: server: vllm: not known"));
  EXPECT_THAT(Complaint("workers: 0\n"), HasSubstr("at least 1"));
  EXPECT_THAT(Complaint("rate: often\n"), HasSubstr("not a rate"));
  EXPECT_EQ(Complaint("warmup: 5s\n"),
            "s.yaml:1: unknown key \"warmup\"; did you mean \"warm-up\"?");
  EXPECT_THAT(Complaint("cycles: 2\nphases:\n  - name: load\n"),
              HasSubstr("there are phases, and cycles makes others"));
  EXPECT_THAT(Complaint("prompt-file: /no/such\n"), HasSubstr("/no/such"));
}

TEST(Plan, PromptFiles) {
  const std::string path = testing::TempDir() + "/prompts.txt";
  std::ofstream(path) << "one\n\n  two \n";
  Prompts prompts;
  ASSERT_TRUE(ReadPrompts(path, prompts).ok());
  EXPECT_THAT(prompts.lines, ElementsAre("one", "two"));
  std::ofstream(path) << "\n";
  EXPECT_THAT(std::string(ReadPrompts(path, prompts).message()), HasSubstr("no prompts"));
}

TEST(Plan, Rates) {
  double rate = 0;
  EXPECT_TRUE(ParseRate("2", rate).ok());
  EXPECT_TRUE(ParseRate("0.5/s", rate).ok());
  EXPECT_EQ(rate, 0.5);
  for (const char* text : {"", "0", "-1", "x", "5/h", "nan"}) {
    EXPECT_FALSE(ParseRate(text, rate).ok()) << text;
  }
}

}  // namespace
}  // namespace ollamatrace
