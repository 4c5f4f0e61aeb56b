#include "preload/session/settings.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::HasSubstr;

class SettingsTest : public ::testing::Test {
 protected:
  Settings Read(std::vector<const char*> environment, const char* exe = "llama-server") {
    environment.push_back(nullptr);
    environment_ = std::move(environment);
    Settings settings;
    ReadSettings(const_cast<char* const*>(environment_.data()), exe, &settings);
    return settings;
  }

 private:
  std::vector<const char*> environment_;
};

TEST_F(SettingsTest, DefaultsWithoutAnything) {
  const Settings settings = Read({"PATH=/bin", "OLLAMATRACE_DIRECTORY=/x", "OLLAMATRACE_MOD=full"});
  EXPECT_EQ(settings.folder, nullptr);
  EXPECT_EQ(settings.temporary, nullptr);
  EXPECT_EQ(settings.mode, Mode::kSurvivors);
  EXPECT_EQ(settings.depth, 128);
  EXPECT_EQ(settings.sample_ns, 1'000'000'000u);
  EXPECT_TRUE(settings.traced);
  EXPECT_STREQ(settings.complaints, "");
}

TEST_F(SettingsTest, NoEnvironmentAtAll) {
  Settings settings;
  ReadSettings(nullptr, "x", &settings);
  EXPECT_TRUE(settings.traced);
}

TEST_F(SettingsTest, GoodValues) {
  const Settings settings =
      Read({"OLLAMATRACE_DIR=/var/trace", "TMPDIR=/scratch", "OLLAMATRACE_MODE=full",
            "OLLAMATRACE_DEPTH=512", "OLLAMATRACE_SAMPLE_MS=0", "OLLAMATRACE_UNWINDER=libunwind"});
  EXPECT_STREQ(settings.folder, "/var/trace");
  EXPECT_STREQ(settings.temporary, "/scratch");
  EXPECT_EQ(settings.mode, Mode::kFull);
  EXPECT_EQ(settings.depth, 512);
  EXPECT_EQ(settings.sample_ns, 0u);
  EXPECT_STREQ(settings.unwinder, "libunwind");
  EXPECT_STREQ(settings.complaints, "");
}

TEST_F(SettingsTest, OnlyNamesPrograms) {
  EXPECT_TRUE(Read({"OLLAMATRACE_ONLY=llama-server,ollama"}).traced);
  EXPECT_TRUE(Read({"OLLAMATRACE_ONLY=ollama,llama-server"}).traced);
  EXPECT_TRUE(Read({"OLLAMATRACE_ONLY="}).traced);
  EXPECT_FALSE(Read({"OLLAMATRACE_ONLY=llama"}).traced);
  EXPECT_FALSE(Read({"OLLAMATRACE_ONLY=llama-server2,xllama-server"}).traced);
  EXPECT_FALSE(Read({"OLLAMATRACE_ONLY=,"}).traced);
}

TEST_F(SettingsTest, BadValuesAreIgnoredAndSaid) {
  for (const char* entry :
       {"OLLAMATRACE_MODE=banana", "OLLAMATRACE_MODE=fullest", "OLLAMATRACE_DEPTH=0",
        "OLLAMATRACE_DEPTH=513", "OLLAMATRACE_DEPTH=-5", "OLLAMATRACE_DEPTH=12x",
        "OLLAMATRACE_DEPTH=99999999999999999999", "OLLAMATRACE_SAMPLE_MS=soon",
        "OLLAMATRACE_SAMPLE_MS=-1", "OLLAMATRACE_SAMPLE_MS=86400001"}) {
    const Settings settings = Read({entry});
    EXPECT_EQ(settings.mode, Mode::kSurvivors) << entry;
    EXPECT_EQ(settings.depth, 128) << entry;
    EXPECT_EQ(settings.sample_ns, 1'000'000'000u) << entry;
    EXPECT_THAT(settings.complaints, HasSubstr(std::string(entry) + " is ignored: ")) << entry;
  }
}

TEST_F(SettingsTest, SampleTakesANumberOfBytes) {
  const struct {
    const char* entry;
    uint64_t bytes;
  } kGood[] = {{"OLLAMATRACE_MODE=sample:1", 1},
               {"OLLAMATRACE_MODE=sample:4096", 4096},
               {"OLLAMATRACE_MODE=sample:512K", 512u << 10},
               {"OLLAMATRACE_MODE=sample:512k", 512u << 10},
               {"OLLAMATRACE_MODE=sample:3M", 3u << 20},
               {"OLLAMATRACE_MODE=sample:1024G", uint64_t{1} << 40}};
  for (const auto& good : kGood) {
    const Settings settings = Read({good.entry});
    EXPECT_EQ(settings.mode, Mode::kSample) << good.entry;
    EXPECT_EQ(settings.sample_bytes, good.bytes) << good.entry;
    EXPECT_STREQ(settings.complaints, "") << good.entry;
  }
  for (const char* entry :
       {"OLLAMATRACE_MODE=sample", "OLLAMATRACE_MODE=sample:", "OLLAMATRACE_MODE=sample:0",
        "OLLAMATRACE_MODE=sample:0K", "OLLAMATRACE_MODE=sample:-1", "OLLAMATRACE_MODE=sample:abc",
        "OLLAMATRACE_MODE=sample:K", "OLLAMATRACE_MODE=sample:512KB",
        "OLLAMATRACE_MODE=sample:1.5M", "OLLAMATRACE_MODE=sample: 5", "OLLAMATRACE_MODE=sample:1T",
        "OLLAMATRACE_MODE=sample:1025G", "OLLAMATRACE_MODE=sample:1099511627777",
        "OLLAMATRACE_MODE=sample:18446744073709551616",
        "OLLAMATRACE_MODE=sample:18014398509481985K", "OLLAMATRACE_MODE=Sample:4K"}) {
    const Settings settings = Read({entry});
    EXPECT_EQ(settings.mode, Mode::kSurvivors) << entry;
    EXPECT_EQ(settings.sample_bytes, 0u) << entry;
    const std::string said = settings.complaints;
    EXPECT_THAT(said, HasSubstr(std::string(entry) + " is ignored: ")) << entry;
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << entry;
  }
}

TEST_F(SettingsTest, MaxBytes) {
  EXPECT_EQ(Read({}).max_bytes, uint64_t{1} << 30);
  EXPECT_EQ(Read({"OLLAMATRACE_MAX_BYTES=0"}).max_bytes, 0u);
  EXPECT_EQ(Read({"OLLAMATRACE_MAX_BYTES=256K"}).max_bytes, 256u << 10);
  EXPECT_EQ(Read({"OLLAMATRACE_MAX_BYTES=300000"}).max_bytes, 300'000u);
  EXPECT_EQ(Read({"OLLAMATRACE_MAX_BYTES=5g"}).max_bytes, uint64_t{5} << 30);
  EXPECT_STREQ(Read({"OLLAMATRACE_MAX_BYTES="}).complaints, "");
  for (const char* entry :
       {"OLLAMATRACE_MAX_BYTES=255K", "OLLAMATRACE_MAX_BYTES=1", "OLLAMATRACE_MAX_BYTES=-1",
        "OLLAMATRACE_MAX_BYTES=1.5G", "OLLAMATRACE_MAX_BYTES=1GB", "OLLAMATRACE_MAX_BYTES=G",
        "OLLAMATRACE_MAX_BYTES=99999999999999999999", "OLLAMATRACE_MAX_BYTES=17179869184G"}) {
    const Settings settings = Read({entry});
    EXPECT_EQ(settings.max_bytes, uint64_t{1} << 30) << entry;
    EXPECT_THAT(settings.complaints, HasSubstr(std::string(entry) + " is ignored: ")) << entry;
  }
}

TEST_F(SettingsTest, ComplaintsAreBoundedAndPrintable) {
  const std::string entry = "OLLAMATRACE_MODE=\n\x7f" + std::string(5000, 'x');
  const Settings settings = Read(std::vector<const char*>(30, entry.c_str()));
  const std::string said = settings.complaints;
  EXPECT_LT(said.size(), sizeof settings.complaints);
  EXPECT_THAT(said, HasSubstr("OLLAMATRACE_MODE=??xxx"));
}

}  // namespace
}  // namespace ollamatrace
