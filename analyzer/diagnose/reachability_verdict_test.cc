#include "analyzer/diagnose/reachability_verdict.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Diagnosis Of(Verdict verdict, double confidence) {
  Diagnosis diagnosis;
  diagnosis.verdict = verdict;
  diagnosis.confidence = confidence;
  return diagnosis;
}

GroupLost Lost(uint64_t bytes, bool grows) {
  GroupLost lost;
  lost.blocks.definitely = {1, bytes};
  lost.scan_seconds = 3;
  lost.live_bytes = 1000;
  lost.grows = grows;
  return lost;
}

TEST(ReachabilityVerdict, ALeakIsSurer) {
  Diagnosis diagnosis = Of(Verdict::kLeak, 0.6);
  ApplyScan(Lost(10, true), diagnosis);
  EXPECT_EQ(diagnosis.verdict, Verdict::kLeak);
  EXPECT_EQ(diagnosis.confidence, 0.95);
  EXPECT_THAT(diagnosis.evidence,
              ElementsAre("definitely lost: 10 bytes in 1 block (scan at 3.00 s)"));
}

TEST(ReachabilityVerdict, WhatGrowsAndIsMostlyLostIsALeak) {
  for (const Verdict verdict :
       {Verdict::kGrowthPerRequest, Verdict::kCache, Verdict::kHighWater, Verdict::kLive}) {
    Diagnosis diagnosis = Of(verdict, 0.7);
    ApplyScan(Lost(500, true), diagnosis);
    EXPECT_EQ(diagnosis.verdict, Verdict::kLeak);
    EXPECT_EQ(diagnosis.confidence, 0.95);
    EXPECT_THAT(diagnosis.evidence.back(), HasSubstr(VerdictName(verdict)));
    EXPECT_THAT(diagnosis.advice, HasSubstr("last pointer"));
  }
}

TEST(ReachabilityVerdict, IndirectlyLostCountsWithWhatHeldIt) {
  GroupLost lost = Lost(10, true);
  lost.blocks.indirectly = {9, 600};
  Diagnosis diagnosis = Of(Verdict::kCache, 0.7);
  ApplyScan(lost, diagnosis);
  EXPECT_EQ(diagnosis.verdict, Verdict::kLeak);
  lost.blocks.definitely = {};  // held by another group's lost block, which is the leak
  diagnosis = Of(Verdict::kCache, 0.7);
  ApplyScan(lost, diagnosis);
  EXPECT_EQ(diagnosis.verdict, Verdict::kCache);
  EXPECT_EQ(diagnosis.evidence.size(), 1u);
}

TEST(ReachabilityVerdict, ASmallPartLostIsToldAlone) {
  Diagnosis diagnosis = Of(Verdict::kCache, 0.7);
  ApplyScan(Lost(499, true), diagnosis);
  EXPECT_EQ(diagnosis.verdict, Verdict::kCache);
  EXPECT_EQ(diagnosis.confidence, 0.7);
  EXPECT_EQ(diagnosis.evidence.size(), 1u);
}

TEST(ReachabilityVerdict, LostOnceIsNoLeakUnlessNothingElseIsKnown) {
  Diagnosis diagnosis = Of(Verdict::kOneTime, 0.9);
  ApplyScan(Lost(1000, false), diagnosis);
  EXPECT_EQ(diagnosis.verdict, Verdict::kOneTime);
  diagnosis = Of(Verdict::kLive, 0.3);
  ApplyScan(Lost(1000, false), diagnosis);
  EXPECT_EQ(diagnosis.verdict, Verdict::kLeak);
}

TEST(ReachabilityVerdict, NothingLostNothingSaid) {
  Diagnosis diagnosis = Of(Verdict::kLeak, 0.6);
  ApplyScan({}, diagnosis);
  EXPECT_EQ(diagnosis.confidence, 0.6);
  EXPECT_THAT(diagnosis.evidence, IsEmpty());
}

}  // namespace
}  // namespace ollamatrace
