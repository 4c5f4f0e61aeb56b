#include "analyzer/diagnose/phases.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t kSecond = 1'000'000'000;

SessionHistory Session(const std::string& script) {
  // One letter a second: L, I, U, R, W, E are phases, r a request.
  SessionHistory session;
  session.start_ns = 100 * kSecond;
  for (size_t i = 0; i < script.size(); ++i) {
    const uint64_t time = session.start_ns + i * kSecond;
    const char* name = script[i] == 'L'   ? "Load"
                       : script[i] == 'I' ? "idle"
                       : script[i] == 'U' ? "unload"
                       : script[i] == 'R' ? "reload 2"
                       : script[i] == 'W' ? "warm-up"
                       : script[i] == 'E' ? "end"
                                          : nullptr;
    if (name != nullptr) session.marks.push_back({time, std::string(kPhaseMark), name, 0});
    if (script[i] == 'r') session.marks.push_back({time, std::string(kRequestMark), "", 0});
  }
  ProcessHistory process;
  process.start_ns = session.start_ns;
  process.end_ns = session.start_ns + script.size() * kSecond;
  session.processes.push_back(process);
  return session;
}

TEST(Phases, None) {
  EXPECT_THAT(PhasesOf(Session("rrr")), IsEmpty());
  EXPECT_THAT(UnloadsOf({}), IsEmpty());
}

TEST(Phases, KindsTimesAndRequests) {
  const auto phases = PhasesOf(Session(".WrLrrIU.R"));
  ASSERT_THAT(phases, SizeIs(5));
  EXPECT_EQ(phases[0].kind, PhaseKind::kWarmUp);
  EXPECT_EQ(phases[0].requests, 1u);
  EXPECT_EQ(phases[1].kind, PhaseKind::kLoad);
  EXPECT_EQ(phases[1].name, "Load");
  EXPECT_DOUBLE_EQ(phases[1].begin, 3);
  EXPECT_DOUBLE_EQ(phases[1].end, 6);
  EXPECT_EQ(phases[1].requests, 2u);
  EXPECT_EQ(phases[2].kind, PhaseKind::kIdle);
  EXPECT_EQ(phases[3].kind, PhaseKind::kUnload);
  EXPECT_EQ(phases[4].kind, PhaseKind::kReload);
  EXPECT_DOUBLE_EQ(phases[4].end, 10);
}

TEST(Phases, Unloads) {
  const auto unloads = UnloadsOf(PhasesOf(Session(".L.IrU.R.U.E")));
  ASSERT_THAT(unloads, SizeIs(2));
  EXPECT_DOUBLE_EQ(unloads[0].loaded, 1);
  EXPECT_TRUE(unloads[0].load_alone);
  EXPECT_DOUBLE_EQ(unloads[0].load_end, 3);
  EXPECT_DOUBLE_EQ(unloads[0].unload, 5);
  EXPECT_DOUBLE_EQ(unloads[0].settled, 7);
  EXPECT_DOUBLE_EQ(unloads[1].loaded, 7);
  EXPECT_DOUBLE_EQ(unloads[1].settled, 11);
  // A "load" in which requests are answered is a load on the server.
  EXPECT_FALSE(UnloadsOf(PhasesOf(Session("LrU")))[0].load_alone);
}

}  // namespace
}  // namespace ollamatrace
