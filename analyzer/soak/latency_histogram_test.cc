#include "analyzer/soak/latency_histogram.h"

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

TEST(LatencyHistogram, PercentilesWithinABucket) {
  LatencyHistogram latencies;
  EXPECT_EQ(latencies.Percentile(0.5), 0);
  for (int i = 1; i <= 10000; ++i) latencies.Add(i * 1e-3);  // 1 ms to 10 s
  EXPECT_EQ(latencies.count(), 10000u);
  EXPECT_NEAR(latencies.Percentile(0.5), 5, 5 * 0.016);
  EXPECT_NEAR(latencies.Percentile(0.99), 9.9, 9.9 * 0.016);
  EXPECT_EQ(latencies.Percentile(1), 10);
  EXPECT_EQ(latencies.greatest(), 10);
}

TEST(LatencyHistogram, ExtremesAndSums) {
  LatencyHistogram a, b;
  a.Add(0);
  a.Add(1e-6);
  b.Add(1e9);  // beyond the last bucket: counted in it
  b.Add(-1);
  a.Add(b);
  EXPECT_EQ(a.count(), 4u);
  EXPECT_EQ(a.Percentile(0.5), 0);
  EXPECT_GT(a.Percentile(1), 3600);
  EXPECT_LE(a.Percentile(0.75), 1e-6);
}

}  // namespace
}  // namespace ollamatrace
