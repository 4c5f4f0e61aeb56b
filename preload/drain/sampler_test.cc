#include "preload/drain/sampler.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <thread>
#include <vector>

#include "preload/base/clock.h"

namespace ollamatrace {
namespace {

int g_calls = 0;
struct mallinfo2 KnownFigures() {
  ++g_calls;
  struct mallinfo2 info = {};
  info.arena = 1;
  info.hblkhd = 2;
  info.uordblks = 3;
  info.fordblks = 4;
  info.keepcost = 5;
  return info;
}

struct mallinfo2 SlowFigures() {
  const uint64_t begin = ThreadCpuNs();
  while (ThreadCpuNs() - begin < 10'000'000) {
  }
  return KnownFigures();
}

class SamplerTest : public testing::Test {
 protected:
  ~SamplerTest() override { CloseSampler(&context_); }
  SampleRecord Sample() {
    context_.status_due_ns = context_.files_due_ns = context_.allocator_due_ns = 0;
    SampleRecord record;
    TakeSample(&context_, &record);
    return record;
  }
  SamplerContext context_;
};

TEST_F(SamplerTest, ReadsMemoryAndThreads) {
  const SampleRecord before = Sample();
  EXPECT_GT(before.time_ns, 0u);
  ASSERT_NE(before.rss_anon, kUnknownGauge);
  EXPECT_GT(before.rss_file, 0u);
  EXPECT_NE(before.rss_shmem, kUnknownGauge);
  EXPECT_NE(before.swap, kUnknownGauge);
  const size_t size = 64u << 20;
  char* const block = static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
  const SampleRecord after = Sample();
  EXPECT_GE(after.rss_anon + after.swap, before.rss_anon + before.swap + size / 2);
  munmap(block, size);
  std::atomic<bool> stop{false};
  std::thread thread([&] { stop.wait(false); });
  EXPECT_EQ(Sample().threads, before.threads + 1);
  stop.store(true);
  stop.notify_all();
  thread.join();
}

TEST_F(SamplerTest, CountsFilesAndSockets) {
  const SampleRecord before = Sample();
  int sockets[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
  const int file = open("/dev/null", O_RDONLY);
  const SampleRecord after = Sample();
  EXPECT_EQ(after.open_files, before.open_files + 3);
  EXPECT_EQ(after.sockets, before.sockets + 2);
  for (const int fd : {sockets[0], sockets[1], file}) close(fd);
  EXPECT_EQ(Sample().open_files, before.open_files);
}

TEST_F(SamplerTest, ItsOwnDescriptorsAreHighAndNotCounted) {
  const int free_before = dup(0);
  close(free_before);
  Sample();
  const int free_after = dup(0);
  close(free_after);
  EXPECT_EQ(free_after, free_before);
  const uint64_t open_files = Sample().open_files;
  CloseSampler(&context_);
  EXPECT_EQ(Sample().open_files, open_files);
}

TEST_F(SamplerTest, SurvivesThatItsDescriptorsAreClosedOrTaken) {
  Sample();
  const int taken = context_.status.fd;
  close(context_.descriptors.fd);
  const int file = open("/dev/null", O_RDONLY);
  ASSERT_EQ(dup2(file, taken), taken);
  close(file);
  const SampleRecord record = Sample();
  EXPECT_NE(record.threads, kUnknownGauge);
  EXPECT_NE(record.open_files, kUnknownGauge);
  EXPECT_NE(context_.status.fd, taken);
  EXPECT_EQ(close(taken), 0) << "it's the program's own now";
}

TEST_F(SamplerTest, ManyDescriptorsAreNotListed) {
  context_.max_listed_files = 40;
  std::vector<int> files;
  while (files.size() < 50) files.push_back(dup(0));
  const SampleRecord record = Sample();
  EXPECT_EQ(record.sockets, kUnknownGauge);
  EXPECT_TRUE(record.open_files == kUnknownGauge || record.open_files >= 50);
  for (const int fd : files) close(fd);
  EXPECT_NE(Sample().sockets, kUnknownGauge);
}

TEST_F(SamplerTest, TheAllocatorsFigures) {
  EXPECT_EQ(Sample().arena, kUnknownGauge);
  context_.mallinfo2 = KnownFigures;
  const SampleRecord record = Sample();
  EXPECT_EQ(record.arena, 1u);
  EXPECT_EQ(record.mmapped, 2u);
  EXPECT_EQ(record.in_use, 3u);
  EXPECT_EQ(record.retained, 4u);
  EXPECT_EQ(record.trimmable, 5u);
}

TEST_F(SamplerTest, WhatIsDearIsReadSeldom) {
  context_.mallinfo2 = SlowFigures;
  g_calls = 0;
  SampleRecord record;
  TakeSample(&context_, &record);
  EXPECT_EQ(g_calls, 1);
  EXPECT_GE(context_.allocator_due_ns, record.time_ns + 1'000'000'000);
  TakeSample(&context_, &record);
  EXPECT_EQ(g_calls, 1);
  EXPECT_EQ(record.arena, kUnknownGauge);
}

TEST_F(SamplerTest, WithoutProcNothingIsKnown) {
  context_.proc = "/proc/none";
  const SampleRecord record = Sample();
  EXPECT_EQ(record.rss_anon, kUnknownGauge);
  EXPECT_EQ(record.threads, kUnknownGauge);
  EXPECT_EQ(record.open_files, kUnknownGauge);
}

TEST_F(SamplerTest, AForkChildReadsItsOwnFigures) {
  std::atomic<bool> stop{false};
  std::thread thread([&] { stop.wait(false); });
  EXPECT_GE(Sample().threads, 2u);
  const pid_t child = fork();
  if (child == 0) {
    CloseSampler(&context_);
    _exit(Sample().threads == 1 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  stop.store(true);
  stop.notify_all();
  thread.join();
}

}  // namespace
}  // namespace ollamatrace
