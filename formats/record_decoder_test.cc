#include "formats/record_decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "formats/record_text.h"
#include "formats/test_trace.h"
#include "formats/varint.h"

namespace ollamatrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class Lines {
 public:
  RecordText text{[this](absl::string_view line) { lines.emplace_back(line); }};
  std::vector<std::string> lines;
};

std::string Tagged(Tag tag, absl::string_view payload) {
  uint8_t length[kMaxVarintBytes];
  const size_t size = static_cast<size_t>(PutVarint(length, payload.size()) - length);
  std::string record(1, static_cast<char>(tag));
  record.append(reinterpret_cast<const char*>(length), size);
  record.append(payload.data(), payload.size());
  return record;
}

// The records of one chunk.
template <typename... Records>
std::string Encoded(const Records&... records) {
  TraceBuilder builder;
  (builder.Add(records), ...);
  return builder.records();
}

TEST(RecordDecoder, AppendedFieldsAreIgnored) {
  const std::string record = Encoded(LossRecord{7, LossKind::kDiskFull, 9});
  const std::string longer =
      Tagged(Tag::kLoss, record.substr(2) + std::string("a later version's field"));
  Lines got;
  RecordDecoder decoder(got.text);
  ASSERT_TRUE(decoder.Decode(longer + record).ok());
  EXPECT_THAT(got.lines, ElementsAre("loss t=7 kind=4 events=9", "loss t=7 kind=4 events=9"));
}

TEST(RecordDecoder, UnknownKindsAreSkippedAndCounted) {
  Lines got;
  RecordDecoder decoder(got.text);
  const std::string unknown =
      Tagged(static_cast<Tag>(0xff), std::string(1000, 'x')) + Tagged(static_cast<Tag>(0x8f), "");
  ASSERT_TRUE(decoder.Decode(unknown + Encoded(EndRecord{1, EndKind::kExec})).ok());
  EXPECT_EQ(decoder.unknown_records(), 2u);
  EXPECT_TRUE(decoder.end_seen());
  EXPECT_THAT(got.lines, ElementsAre("end t=1 kind=1"));
}

TEST(RecordDecoder, UnknownEventIsBad) {
  Lines got;
  RecordDecoder decoder(got.text);
  const absl::Status status =
      decoder.Decode(Encoded(EndRecord{1, EndKind::kExec}) + std::string("\x07 and more"));
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("0x7"));
  EXPECT_EQ(got.lines.size(), 1u);  // what was before it counts
}

// Every record, cut anywhere, is an error and never delivered.
TEST(RecordDecoder, CutRecordsAreBad) {
  HeaderRecord header;
  header.exe = TextOf("/bin/true");
  header.architecture = TextOf("x86_64");
  const std::string records[] = {
      Encoded(header),
      Encoded(ModuleRecord{ModuleId{1}, 300, 1 << 20, 1 << 20, 2 << 20, TextOf("id"), TextOf("p")}),
      Encoded(ModuleUnloadRecord{ModuleId{1}, 300}),
      Encoded(ThreadRecord{ThreadId{1}, 300, 300, TextOf("name")}),
      Encoded(ThreadEndRecord{ThreadId{1}, 300}),
      Encoded(NodeRecord{StackId{1}, StackId{300}, ModuleId{1}, 0x123456, 1}),
      Encoded(CountersRecord{StackId{300}, Domain::kHeap, 1, 2, 3, 4, 5, 6}),
      Encoded(WeightsRecord{StackId{300}, Domain::kHeap, 1, 2, 3, 4}),
      Encoded(SampleRecord{300, 1, 2, 3}),
      Encoded(LossRecord{300, LossKind::kOther, 300}),
      Encoded(MessageRecord{300, TextOf("text")}),
      Encoded(EndRecord{300, EndKind::kExited}),
  };
  for (const std::string& record : records) {
    const std::string payload = record.substr(2);
    ASSERT_EQ(record, Tagged(static_cast<Tag>(static_cast<uint8_t>(record[0])), payload));
    for (size_t size = 0; size < payload.size(); ++size) {
      Lines got;
      RecordDecoder decoder(got.text);
      // A payload that is too short.
      const absl::Status status = decoder.Decode(
          Tagged(static_cast<Tag>(static_cast<uint8_t>(record[0])), payload.substr(0, size)));
      EXPECT_TRUE(absl::IsDataLoss(status)) << got.lines.size() << " " << size << status;
      // A chunk that ends within the record.
      EXPECT_TRUE(absl::IsDataLoss(decoder.Decode(record.substr(0, size + 1))));
      EXPECT_THAT(got.lines, IsEmpty());
    }
  }
  const std::string events[] = {
      Encoded(AllocRecord{1 << 20, ThreadId{300}, Domain::kHeap, AllocFunction::kMalloc,
                          StackId{300}, 1 << 20, 300}),
      Encoded(FreeRecord{1 << 20, ThreadId{300}, Domain::kHeap, 1 << 20}),
      Encoded(MapRecord{1 << 20, ThreadId{300}, AllocFunction::kMmap, StackId{300}, 1 << 20, 300, 3,
                        0}),
      Encoded(UnmapRecord{1 << 20, ThreadId{300}, 1 << 20, 300}),
  };
  for (const std::string& event : events) {
    for (size_t size = 0; size < event.size(); ++size) {
      Lines got;
      RecordDecoder decoder(got.text);
      decoder.Decode(event.substr(0, size)).IgnoreError();
      EXPECT_THAT(got.lines, IsEmpty());
    }
  }
}

TEST(RecordDecoder, NumbersBeyondTheirTypeAreBad) {
  Lines got;
  RecordDecoder decoder(got.text);
  // Thread id 2^32.
  EXPECT_TRUE(absl::IsDataLoss(
      decoder.Decode(Tagged(Tag::kThreadEnd, std::string("\x80\x80\x80\x80\x10\x01", 6)))));
  // A stack below 0.
  EXPECT_TRUE(absl::IsDataLoss(decoder.Decode(absl::string_view("\x02\0\0\0\0\x01", 6))));
  // A length of 2^64 - 1.
  EXPECT_TRUE(
      absl::IsDataLoss(decoder.Decode("\x89\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01 text")));
  // A varint of eleven bytes.
  EXPECT_TRUE(absl::IsDataLoss(
      decoder.Decode(absl::string_view("\x01\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\0\0", 13))));
  EXPECT_THAT(got.lines, IsEmpty());
}

TEST(RecordDecoder, NewerHeaderIsRefusedWithBothVersions) {
  HeaderRecord header;
  header.version = 77;
  Lines got;
  RecordDecoder decoder(got.text);
  const absl::Status status = decoder.Decode(Encoded(header));
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("77"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("reader's 2"));
  EXPECT_THAT(got.lines, IsEmpty());
}

TEST(RecordDecoder, HeaderWithoutMagicIsBad) {
  std::string record = Encoded(HeaderRecord{});
  record[3] ^= 1;
  Lines got;
  RecordDecoder decoder(got.text);
  EXPECT_TRUE(absl::IsDataLoss(decoder.Decode(record)));
  EXPECT_FALSE(decoder.header_seen());
}

TEST(RecordDecoder, SubstituteHeaderComesFirstAndOnlyWhenItIsNeeded) {
  HeaderRecord own, substitute;
  own.pid = 1;
  substitute.pid = 2;
  const std::string stand_in = Encoded(substitute);
  const std::string end = Encoded(EndRecord{1, EndKind::kExited});
  {
    Lines got;
    RecordDecoder decoder(got.text);
    decoder.set_substitute_header(stand_in);
    ASSERT_TRUE(decoder.Decode(Encoded(own) + end).ok());
    EXPECT_THAT(got.lines, ElementsAre(HasSubstr("pid=1"), StartsWith("end")));
  }
  {
    Lines got;
    RecordDecoder decoder(got.text);
    decoder.set_substitute_header(stand_in);
    ASSERT_TRUE(decoder.Decode(end + end).ok());
    EXPECT_THAT(got.lines, ElementsAre(HasSubstr("pid=2"), StartsWith("end"), StartsWith("end")));
  }
  {
    Lines got;
    RecordDecoder decoder(got.text);
    decoder.set_substitute_header("\x80 no header");
    ASSERT_TRUE(decoder.Decode(end).ok());
    EXPECT_THAT(got.lines, ElementsAre(StartsWith("end")));
  }
}

TEST(RecordDecoder, ResetStartsAfresh) {
  const std::string chunk = Encoded(FreeRecord{1000, ThreadId{5}, Domain::kHeap, 0x1000},
                                    FreeRecord{1001, ThreadId{5}, Domain::kHeap, 0x2000});
  Lines got;
  RecordDecoder decoder(got.text);
  // Two chunks' records as one stream, as `zstd -dc` prints them.
  ASSERT_TRUE(decoder.Decode(chunk + chunk).ok());
  ASSERT_EQ(got.lines.size(), 4u);
  EXPECT_EQ(got.lines[0], got.lines[2]);
  EXPECT_EQ(got.lines[1], got.lines[3]);
  EXPECT_EQ(got.lines[1], "free t=1001 thread=5 domain=0 address=0x2000");
  EXPECT_EQ(decoder.last_ns(), 1001u);
}

}  // namespace
}  // namespace ollamatrace
