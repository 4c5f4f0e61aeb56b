// What the page carries is what the report holds; the page itself is tested in a browser
// (tests/html).
#include "analyzer/html/html_renderer.h"

#include <zlib.h>

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "analyzer/html/page.h"
#include "analyzer/report/build_report.h"
#include "analyzer/report/example_session.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Json = nlohmann::json;

Report Example() {
  const SessionHistory session = ExampleSession();
  ExampleSymbols symbols;
  NameExample(symbols);
  return BuildReport(session, {.include_freed = true, .timeline_points = 50}, symbols);
}

std::string Html(const Report& report, const ReportDiff* diff = nullptr) {
  std::string page;
  const absl::Status status = RenderHtml(
      report, diff, [&](absl::string_view text) { page.append(text.data(), text.size()); });
  EXPECT_TRUE(status.ok()) << status;
  return page;
}

std::string Unpack(const std::string& packed) {
  z_stream stream = {};
  EXPECT_EQ(inflateInit2(&stream, MAX_WBITS + 16), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  std::string text;
  int result = Z_OK;
  while (result == Z_OK) {
    char room[4096];
    stream.next_out = reinterpret_cast<Bytef*>(room);
    stream.avail_out = sizeof(room);
    result = inflate(&stream, Z_NO_FLUSH);
    text.append(room, sizeof(room) - stream.avail_out);
  }
  EXPECT_EQ(result, Z_STREAM_END);
  inflateEnd(&stream);
  return text;
}

// The data element's JSON; null where the page has none.
Json Data(const std::string& page, const std::string& id) {
  const std::string open = absl::StrCat("<script type=\"application/gzip\" id=\"", id, "\">");
  const size_t begin = page.find(open);
  if (begin == std::string::npos) return nullptr;
  const size_t end = page.find("</script>", begin);
  std::string packed;
  EXPECT_TRUE(
      absl::Base64Unescape(page.substr(begin + open.size(), end - begin - open.size()), &packed));
  return Json::parse(Unpack(packed));
}

Json JsonReport(const Report& report) {
  std::string text;
  RenderJson(report, [&](absl::string_view piece) { text.append(piece.data(), piece.size()); });
  return Json::parse(text);
}

class HtmlTest : public testing::Test {
 protected:
  void SetUp() override {
    if (Page().empty()) GTEST_SKIP() << "built without the page";
  }
};

TEST_F(HtmlTest, CarriesTheWholeReport) {
  const Report report = Example();
  const Json carried = Data(Html(report), "report-data");
  const Json whole = JsonReport(report);
  ASSERT_EQ(carried["groups"].size(), whole["groups"].size());
  for (const char* part : {"headline", "session", "processes", "phases", "cycles", "timeline",
                           "fragmentation", "coverage"}) {
    EXPECT_EQ(carried[part], whole[part]) << part;
  }
  for (size_t i = 0; i < whole["groups"].size(); ++i) {
    Json group = carried["groups"][i];
    // Indices and changes, put back as they were.
    Json frames = Json::array();
    for (const Json& index : group["frames"]) {
      frames.push_back(carried["frames"][index.get<size_t>()]);
      frames.back().erase("plumbing");
    }
    group["frames"] = frames;
    Json curve = Json::array(), level;
    size_t next = 0;
    for (size_t moment = 0; moment < 50; ++moment) {
      if (next < group["curve"].size() && group["curve"][next] == moment) {
        level = group["curve"][next + 1];
        next += 2;
      }
      curve.push_back(level);
    }
    group["curve"] = curve;
    EXPECT_EQ(group, whole["groups"][i]);
  }
}

// One stack of the server is given back what it holds.
TEST_F(HtmlTest, FreedGroupsAreToldApart) {
  SessionHistory session = ExampleSession();
  StackStats& stats = session.processes[0].stacks.begin()->second;
  stats.peak_bytes = 4321;
  stats.frees = stats.allocations;
  stats.live_bytes = stats.live_blocks = 0;
  ExampleSymbols symbols;
  NameExample(symbols);
  const Report without = BuildReport(session, {.timeline_points = 50}, symbols);
  const Report with = BuildReport(session, {.include_freed = true, .timeline_points = 50}, symbols);
  EXPECT_EQ(with.groups.size(), without.groups.size() + 1);
  EXPECT_EQ(with.live_bytes_in_all, without.live_bytes_in_all);
  const Json carried = Data(Html(with), "report-data");
  size_t freed = 0;
  for (const Json& group : carried["groups"]) {
    EXPECT_EQ(group["live_blocks"] == 0, group["verdict"] == "freed") << group;
    if (group["verdict"] != "freed") continue;
    ++freed;
    EXPECT_EQ(group["peak_bytes"], 4321);
    EXPECT_EQ(group["evidence"], Json::array());
  }
  EXPECT_EQ(freed, 1u);
}

TEST_F(HtmlTest, NamesCannotLeaveTheData) {
  Report report = Example();
  report.title = "</script><script>alert(1)</script>";
  report.frames[0].function = "<img src=x onerror=alert(1)>";
  const std::string page = Html(report);
  EXPECT_THAT(page, Not(HasSubstr("alert(1)")));
  EXPECT_EQ(Data(page, "report-data")["title"], report.title);
}

TEST_F(HtmlTest, HoldsADiffWhenThereIsOne) {
  const Report report = Example();
  EXPECT_EQ(Data(Html(report), "diff-data"), nullptr);
  const ReportDiff diff = DiffReports(report, report);
  const Json carried = Data(Html(report, &diff), "diff-data");
  EXPECT_EQ(carried["schema"], "ollama-leakview/diff/1");
  EXPECT_THAT(carried["groups"], Not(IsEmpty()));
}

TEST_F(HtmlTest, NeedsNothingFromElsewhere) {
  const std::string page(Page());
  for (const char* word : {"src=\"http", "href=\"http", "url(http", "import(", "@import"}) {
    EXPECT_THAT(page, Not(HasSubstr(word)));
  }
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
}

}  // namespace
}  // namespace ollamatrace
