#include "formats/trace_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "formats/chunk_index.h"
#include "formats/record_text.h"
#include "formats/test_trace.h"

namespace ollamatrace {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Reading {
  absl::Status status;
  ReadSummary summary;
  std::vector<std::string> lines;
};

Reading ReadBytes(absl::string_view bytes) {
  Reading reading;
  RecordText text([&](absl::string_view line) { reading.lines.emplace_back(line); });
  absl::StatusOr<ReadSummary> summary = ReadTraceBytes(bytes, text);
  reading.status = summary.status();
  if (summary.ok()) reading.summary = *std::move(summary);
  return reading;
}

Reading ReadFile(const std::string& path) {
  Reading reading;
  RecordText text([&](absl::string_view line) { reading.lines.emplace_back(line); });
  absl::StatusOr<ReadSummary> summary = ReadTrace(path, text);
  reading.status = summary.status();
  if (summary.ok()) reading.summary = *std::move(summary);
  return reading;
}

std::string WriteFile(const std::string& name, absl::string_view bytes) {
  const std::string path = absl::StrCat(testing::TempDir(), "/", name);
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return path;
}

struct Example {
  Example() {
    RecordText text([this](absl::string_view line) { lines.emplace_back(line); });
    TraceBuilder builder(&text);
    AddEveryRecord(builder);
    bytes = builder.bytes();
    offsets = builder.chunk_offsets();
  }
  std::string bytes;
  std::vector<size_t> offsets;
  std::vector<std::string> lines;
};

// A trace of `chunks` chunks with one Loss record in each, which tells the chunks apart.
TraceBuilder Numbered(int chunks) {
  TraceBuilder builder;
  for (int i = 0; i < chunks; ++i) {
    builder.Add(LossRecord{static_cast<uint64_t>(i), LossKind::kOther, 0});
    builder.CloseChunk();
  }
  return builder;
}
std::vector<std::string> NumberedLines(std::initializer_list<int> chunks) {
  std::vector<std::string> lines;
  for (const int i : chunks) lines.push_back(absl::StrCat("loss t=", i, " kind=5 events=0"));
  return lines;
}

// Rewrites the index of the chunk at `offset`, with its checksum right.
void ChangeIndex(std::string& bytes, size_t offset, void (*change)(ChunkIndex&)) {
  ChunkIndex index;
  auto* frame = reinterpret_cast<uint8_t*>(bytes.data()) + offset;
  ASSERT_EQ(GetIndex(frame + kSkippableHeaderBytes, kIndexPayloadBytes, &index), IndexResult::kOk);
  change(index);
  PutIndexFrame(index, frame);
}

TEST(TraceReader, EveryRecordRoundTrips) {
  const Example example;
  const Reading reading = ReadBytes(example.bytes);
  ASSERT_TRUE(reading.status.ok()) << reading.status;
  EXPECT_THAT(reading.lines, ElementsAreArray(example.lines));
  EXPECT_EQ(reading.summary.chunks, 4u);
  EXPECT_EQ(reading.summary.damaged_chunks, 0u);
  EXPECT_EQ(reading.summary.dropped_bytes, 0u);
  EXPECT_FALSE(reading.summary.truncated);
  EXPECT_TRUE(reading.summary.complete);
  EXPECT_THAT(reading.summary.notes, IsEmpty());
}

TEST(TraceReader, FilesAndMemoryReadTheSame) {
  const Example example;
  const std::string path = WriteFile("whole.zst", example.bytes);
  std::vector<std::pair<uint64_t, uint64_t>> progress;
  ReadOptions options;
  options.progress = [&](uint64_t done, uint64_t all) { progress.emplace_back(done, all); };
  std::vector<std::string> lines;
  RecordText text([&](absl::string_view line) { lines.emplace_back(line); });
  const absl::StatusOr<ReadSummary> summary = ReadTrace(path, text, options);
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_FALSE(summary->has_journal);
  EXPECT_THAT(lines, ElementsAreArray(example.lines));
  ASSERT_EQ(progress.size(), 4u);
  EXPECT_EQ(progress.back(), std::make_pair(example.bytes.size(), example.bytes.size()));
}

TEST(TraceReader, RandomEventsRoundTrip) {
  std::vector<std::string> expected;
  RecordText witness([&](absl::string_view line) { expected.emplace_back(line); });
  TraceBuilder builder(&witness);
  std::mt19937_64 random(1);
  const auto number = [&] { return random() >> (random() % 64); };
  for (int i = 0; i < 20000; ++i) {
    const uint64_t time_ns = number();
    const ThreadId thread{static_cast<uint32_t>(number())};
    const StackId stack{static_cast<uint32_t>(number())};
    const auto function = static_cast<AllocFunction>(random() % 8);
    const auto domain = static_cast<Domain>(random() % 16);
    switch (random() % 4) {
      case 0:
        builder.Add(AllocRecord{time_ns, thread, domain, function, stack, number(), number()});
        break;
      case 1:
        builder.Add(FreeRecord{time_ns, thread, domain, number()});
        break;
      case 2:
        builder.Add(MapRecord{time_ns, thread, function, stack, number(), number(), 3, 0});
        break;
      default:
        builder.Add(UnmapRecord{time_ns, thread, number(), number()});
    }
    if (random() % 1000 == 0) builder.CloseChunk();
  }
  builder.CloseChunk();
  const Reading reading = ReadBytes(builder.bytes());
  ASSERT_TRUE(reading.status.ok()) << reading.status;
  EXPECT_EQ(reading.lines, expected);
}

TEST(TraceReader, RefusesWhatIsNoTrace) {
  EXPECT_TRUE(absl::IsInvalidArgument(ReadBytes("").status));
  EXPECT_THAT(std::string(ReadBytes("").status.message()), HasSubstr("empty"));
  EXPECT_TRUE(absl::IsInvalidArgument(ReadBytes("just text").status));
  EXPECT_TRUE(absl::IsInvalidArgument(ReadBytes(std::string(1 << 20, '\0')).status));
  EXPECT_TRUE(absl::IsInvalidArgument(ReadBytes(std::string(1 << 20, 'W')).status));
  const Example example;
  EXPECT_TRUE(absl::IsInvalidArgument(ReadBytes(example.bytes.substr(0, 55)).status));
  // Records without their index.
  EXPECT_TRUE(absl::IsInvalidArgument(ReadBytes(example.bytes.substr(56, 100)).status));
  const Reading missing = ReadFile(absl::StrCat(testing::TempDir(), "/missing.zst"));
  EXPECT_TRUE(absl::IsNotFound(missing.status));
  EXPECT_THAT(std::string(missing.status.message()), HasSubstr("missing.zst"));
  EXPECT_TRUE(absl::IsInvalidArgument(ReadFile(testing::TempDir()).status));
  EXPECT_TRUE(absl::IsInvalidArgument(ReadFile("/dev/null").status));
}

TEST(TraceReader, RefusesANewerVersionByBothNames) {
  Example example;
  ChangeIndex(example.bytes, 0, [](ChunkIndex& index) { index.version = 77; });
  const Reading reading = ReadFile(WriteFile("newer.zst", example.bytes));
  EXPECT_TRUE(absl::IsFailedPrecondition(reading.status));
  EXPECT_THAT(std::string(reading.status.message()), HasSubstr("version 77"));
  EXPECT_THAT(std::string(reading.status.message()), HasSubstr("reader's 2"));
  EXPECT_THAT(std::string(reading.status.message()), HasSubstr("newer.zst"));
}

// Whatever is cut off, every chunk before it is read, and the cut is said.
TEST(TraceReader, TruncatedAnywhere) {
  const TraceBuilder builder = Numbered(3);
  const std::string& bytes = builder.bytes();
  for (size_t size = kIndexFrameBytes; size < bytes.size(); ++size) {
    const Reading reading = ReadBytes(bytes.substr(0, size));
    ASSERT_TRUE(reading.status.ok()) << size << reading.status;
    size_t whole = 0;
    for (const size_t offset : builder.chunk_offsets()) whole += offset != 0 && offset <= size;
    EXPECT_EQ(reading.lines.size(), whole) << size;
    EXPECT_EQ(reading.summary.chunks, whole);
    EXPECT_EQ(reading.summary.damaged_chunks, 0u) << size;
    const bool at_boundary = whole != 0 && builder.chunk_offsets()[whole] == size;
    EXPECT_EQ(reading.summary.truncated, !at_boundary) << size;
    EXPECT_EQ(reading.summary.dropped_bytes, size - builder.chunk_offsets()[whole]);
    EXPECT_EQ(reading.summary.notes.size(), at_boundary ? 0u : 1u);
  }
}

TEST(TraceReader, ReservedSpaceAtTheEndIsATruncation) {
  const Reading reading = ReadBytes(Numbered(2).bytes() + std::string(100'000, '\0'));
  ASSERT_TRUE(reading.status.ok());
  EXPECT_EQ(reading.summary.chunks, 2u);
  EXPECT_TRUE(reading.summary.truncated);
  EXPECT_EQ(reading.summary.damaged_chunks, 0u);
  EXPECT_EQ(reading.summary.dropped_bytes, 100'000u);
}

// A flipped bit anywhere costs the chunk that it is in, and no other.
TEST(TraceReader, EveryFlippedBitCostsItsChunkAlone) {
  const TraceBuilder builder = Numbered(3);
  for (size_t i = 0; i < builder.bytes().size(); ++i) {
    size_t damaged = 0;
    while (damaged + 1 < 3 && builder.chunk_offsets()[damaged + 1] <= i) ++damaged;
    for (int bit = 0; bit < 8; ++bit) {
      // The one bit that has no meaning and no checksum (RFC 8878, 3.1.1.1.1.3).
      if (i == builder.chunk_offsets()[damaged] + kIndexFrameBytes + 4 && bit == 4) continue;
      std::string bytes = builder.bytes();
      bytes[i] = static_cast<char>(bytes[i] ^ (1 << bit));
      const Reading reading = ReadBytes(bytes);
      ASSERT_TRUE(reading.status.ok()) << i;
      const auto expected = damaged == 0   ? NumberedLines({1, 2})
                            : damaged == 1 ? NumberedLines({0, 2})
                                           : NumberedLines({0, 1});
      EXPECT_EQ(reading.lines, expected) << "byte " << i << " bit " << bit;
      EXPECT_EQ(reading.summary.damaged_chunks + reading.summary.truncated, 1u)
          << "byte " << i << " bit " << bit;
      EXPECT_EQ(reading.summary.notes.size(), 1u);
    }
  }
}

TEST(TraceReader, LostAndInsertedBytes) {
  const TraceBuilder builder = Numbered(5);
  const std::string& bytes = builder.bytes();
  const std::vector<size_t>& at = builder.chunk_offsets();
  // From the middle of chunk 1 to the middle of chunk 3.
  Reading reading = ReadBytes(bytes.substr(0, at[1] + 60) + bytes.substr(at[3] + 10));
  EXPECT_EQ(reading.lines, NumberedLines({0, 4}));
  EXPECT_EQ(reading.summary.damaged_chunks, 3u);
  // Whole chunks.
  reading = ReadBytes(bytes.substr(0, at[1]) + bytes.substr(at[3]));
  EXPECT_EQ(reading.lines, NumberedLines({0, 3, 4}));
  EXPECT_EQ(reading.summary.damaged_chunks, 2u);
  EXPECT_EQ(reading.summary.dropped_bytes, 0u);
  // A few bytes inside a frame: the next chunk lies within the bounds that the index claims.
  reading = ReadBytes(bytes.substr(0, at[2] - 3) + bytes.substr(at[2]));
  EXPECT_EQ(reading.lines, NumberedLines({0, 2, 3, 4}));
  EXPECT_EQ(reading.summary.damaged_chunks, 1u);
  // Garbage between chunks, longer than one step of the search.
  reading = ReadBytes(bytes.substr(0, at[2]) + std::string(200'000, 'W') + bytes.substr(at[2]));
  EXPECT_EQ(reading.lines, NumberedLines({0, 1, 2, 3, 4}));
  EXPECT_EQ(reading.summary.damaged_chunks, 1u);
  EXPECT_EQ(reading.summary.dropped_bytes, 200'000u);
  // Garbage of every length around a step's end.
  for (size_t size = 65'400; size < 65'600; ++size) {
    reading = ReadBytes(bytes.substr(0, at[2]) + std::string(size, '\x2a') + bytes.substr(at[2]));
    ASSERT_EQ(reading.lines.size(), 5u) << size;
  }
}

// An index with a right checksum and wrong contents: the checksum proves no good will.
TEST(TraceReader, LyingIndexes) {
  const TraceBuilder builder = Numbered(3);
  const size_t second = builder.chunk_offsets()[1];
  void (*const lies[])(ChunkIndex&) = {
      [](ChunkIndex& index) { index.raw_bytes = 0; },
      [](ChunkIndex& index) { index.raw_bytes = kMaxChunkBytes + 1; },
      [](ChunkIndex& index) { index.raw_bytes = 0xffffffff; },
      [](ChunkIndex& index) { ++index.raw_bytes; },
      [](ChunkIndex& index) { --index.raw_bytes; },
      [](ChunkIndex& index) { index.frame_bytes = 0; },
      [](ChunkIndex& index) { index.frame_bytes = 0xffffffff; },
      [](ChunkIndex& index) { ++index.frame_bytes; },
      [](ChunkIndex& index) { --index.frame_bytes; },
      [](ChunkIndex& index) { index.frame_bytes += 100; },
      [](ChunkIndex& index) { index.version = 0; },
  };
  for (const auto lie : lies) {
    std::string bytes = builder.bytes();
    ChangeIndex(bytes, second, lie);
    const Reading reading = ReadBytes(bytes);
    ASSERT_TRUE(reading.status.ok());
    EXPECT_EQ(reading.lines, NumberedLines({0, 2}));
    EXPECT_EQ(reading.summary.damaged_chunks, 1u);
  }
}

TEST(TraceReader, ChunksOfUnknownKindAreSkipped) {
  std::string bytes = Numbered(3).bytes();
  ChangeIndex(bytes, Numbered(1).bytes().size(), [](ChunkIndex& index) { index.kind = 9; });
  const Reading reading = ReadBytes(bytes);
  EXPECT_EQ(reading.lines, NumberedLines({0, 2}));
  EXPECT_EQ(reading.summary.damaged_chunks, 0u);
  EXPECT_EQ(reading.summary.unknown_records, 1u);
}

TEST(TraceReader, LongerIndexesAreRead) {
  // A later version appended to the index's payload.
  const TraceBuilder builder = Numbered(2);
  std::string bytes = builder.bytes();
  const size_t at = builder.chunk_offsets()[1];
  bytes[at + 4] = static_cast<char>(kIndexPayloadBytes + 8);
  bytes.insert(at + kIndexFrameBytes, "appended");
  const Reading reading = ReadBytes(bytes);
  EXPECT_EQ(reading.lines, NumberedLines({0, 1}));
  EXPECT_EQ(reading.summary.damaged_chunks, 0u);
}

TEST(TraceReader, FramesWithoutChecksumAreNotBelieved) {
  std::string bytes = Numbered(2).bytes();
  // The descriptor's checksum flag of the first frame; the checksum itself is then garbage.
  bytes[kIndexFrameBytes + 4] = static_cast<char>(bytes[kIndexFrameBytes + 4] & ~4);
  const Reading reading = ReadBytes(bytes);
  EXPECT_EQ(reading.lines, NumberedLines({1}));
  EXPECT_EQ(reading.summary.damaged_chunks, 1u);
}

TEST(TraceReader, ABadRecordCostsTheRestOfItsChunk) {
  TraceBuilder builder;
  builder.Add(LossRecord{0, LossKind::kOther, 0});
  builder.AddRaw("\x7f");
  builder.Add(LossRecord{99, LossKind::kOther, 0});
  builder.CloseChunk();
  builder.Add(LossRecord{1, LossKind::kOther, 0});
  builder.CloseChunk();
  const Reading reading = ReadBytes(builder.bytes());
  ASSERT_TRUE(reading.status.ok());
  EXPECT_EQ(reading.lines, NumberedLines({0, 1}));
  EXPECT_EQ(reading.summary.damaged_chunks, 1u);
}

TEST(TraceReader, NotesAreBounded) {
  std::string bytes;
  const std::string one = Numbered(1).bytes();
  for (int i = 0; i < 1000; ++i) bytes += one + "garbage";
  const Reading reading = ReadBytes(bytes);
  EXPECT_EQ(reading.lines.size(), 1000u);
  EXPECT_EQ(reading.summary.damaged_chunks, 1000u);
  EXPECT_EQ(reading.summary.notes.size(), ReadSummary::kMaxNotes + 1);
}

}  // namespace
}  // namespace ollamatrace
