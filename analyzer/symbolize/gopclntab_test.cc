// The four layouts of Go's function table, written out by hand: no toolchain of today makes the
// older ones. Real binaries are in symbolizer_go_test.cc.
#include "analyzer/symbolize/gopclntab.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kText = 0x400000;

using Steps = std::vector<std::pair<int32_t, uint32_t>>;  // (value, bytes of code that have it)

class Bytes {
 public:
  template <typename T>
  Bytes& Put(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  Bytes& PutText(const std::string& text) {
    text_ += text;
    return *this;
  }
  void Align() { text_.resize((text_.size() + 7) & ~size_t{7}); }
  uint32_t size() const { return static_cast<uint32_t>(text_.size()); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

void PutVarint(Bytes* bytes, uint32_t value) {
  for (; value >= 0x80; value >>= 7) bytes->Put<uint8_t>(static_cast<uint8_t>(value | 0x80));
  bytes->Put<uint8_t>(static_cast<uint8_t>(value));
}

uint32_t PutPcTable(Bytes* bytes, const Steps& steps) {
  const uint32_t offset = bytes->size();
  int32_t previous = -1;
  for (const auto& [value, length] : steps) {
    const int32_t delta = value - previous;
    PutVarint(bytes, static_cast<uint32_t>(delta << 1 ^ delta >> 31));
    PutVarint(bytes, length);
    previous = value;
  }
  bytes->Put<uint8_t>(0);
  return offset;
}

// main.outer at [kText, +0x20) in a.go, with main.inner (b.go) inlined at [+8, +0x10), called on
// line 11; main.last at [+0x20, +0x40).
struct Example {
  std::vector<uint8_t> table;
  std::vector<uint8_t> funcdata;
};

Example Make(GoVersion version) {
  const bool is_1_2 = version == GoVersion::k1_2;
  const bool short_entry = version >= GoVersion::k1_18;
  Bytes names;
  names.PutText(std::string("main.outer\0main.inner\0main.last\0", 33));
  const uint32_t outer_name = 0, inner_name = 11, last_name = 22;
  Bytes files;
  files.PutText(std::string("/src/a.go\0/src/b.go\0", 20));
  Bytes pc_tables;
  pc_tables.Put<uint8_t>(0);
  const int32_t first_file = is_1_2 ? 1 : 0;
  const uint32_t file_steps =
      PutPcTable(&pc_tables, {{first_file, 8}, {first_file + 1, 8}, {first_file, 16}});
  const uint32_t line_steps = PutPcTable(&pc_tables, {{11, 8}, {300, 8}, {12, 16}});
  const uint32_t inline_steps = PutPcTable(&pc_tables, {{-1, 8}, {0, 8}, {-1, 16}});
  const uint32_t last_file_steps = PutPcTable(&pc_tables, {{first_file, 32}});
  const uint32_t last_line_steps = PutPcTable(&pc_tables, {{40, 32}});

  Bytes funcdata;
  funcdata.Put<uint64_t>(0x1111111111111111);  // Something else stands before the tree.
  const uint32_t tree = funcdata.size();
  if (version == GoVersion::k1_20) {
    funcdata.Put<uint32_t>(0).Put(inner_name).Put<uint32_t>(4).Put<uint32_t>(1);
  } else {
    funcdata.Put<int32_t>(-1).Put<uint32_t>(0).Put<uint32_t>(11).Put(inner_name).Put<uint32_t>(4);
  }

  // Where the parts of the oldest layout begin: all in one piece, behind the header and its table.
  const uint32_t names_at = 8 + 8 + 5 * 8 + 8;
  const uint32_t pc_tables_at = names_at + names.size() + files.size();
  const auto record = [&](uint64_t entry, uint32_t name, uint32_t pc_file, uint32_t pc_line,
                          uint32_t pc_inline) {
    Bytes bytes;
    if (short_entry) {
      bytes.Put<uint32_t>(static_cast<uint32_t>(entry));
    } else {
      bytes.Put<uint64_t>(kText + entry);
    }
    const uint32_t base = is_1_2 ? pc_tables_at : 0;
    bytes.Put<uint32_t>(is_1_2 ? names_at + name : name);
    bytes.Put<uint32_t>(0).Put<uint32_t>(0).Put<uint32_t>(0);
    bytes.Put<uint32_t>(base + pc_file).Put<uint32_t>(base + pc_line);
    const uint32_t counts = pc_inline != 0 ? 3 : 0;
    bytes.Put<uint32_t>(counts);
    if (!is_1_2) bytes.Put<uint32_t>(0);                      // The compile unit.
    if (version == GoVersion::k1_20) bytes.Put<uint32_t>(1);  // The function's first line.
    bytes.Put<uint32_t>(counts != 0 ? 4u << 24 : 0);          // The number of funcdata.
    if (counts != 0) {
      bytes.Put<uint32_t>(0).Put<uint32_t>(0).Put<uint32_t>(pc_inline);
      for (int i = 0; i < 3; ++i) bytes.Put<uint32_t>(0xffffffff);
      bytes.Put<uint32_t>(tree);
    }
    bytes.Align();
    return bytes;
  };
  const Bytes outer = record(0, outer_name, file_steps, line_steps, short_entry ? inline_steps : 0);
  const Bytes last = record(0x20, last_name, last_file_steps, last_line_steps, 0);

  const auto functions = [&](uint32_t first_record, uint32_t second_record) {
    Bytes bytes;
    const auto put = [&](uint64_t value, bool is_entry) {
      if (short_entry) {
        bytes.Put<uint32_t>(static_cast<uint32_t>(value));
      } else {
        bytes.Put<uint64_t>(is_entry ? kText + value : value);
      }
    };
    put(0, true);
    put(first_record, false);
    put(0x20, true);
    put(second_record, false);
    put(0x40, true);
    return bytes;
  };

  static constexpr uint32_t kMagics[] = {0xfffffffb, 0xfffffffa, 0xfffffff0, 0xfffffff1};
  Bytes table;
  table.Put<uint32_t>(kMagics[static_cast<int>(version)]);
  table.Put<uint8_t>(0).Put<uint8_t>(0).Put<uint8_t>(1).Put<uint8_t>(8);
  table.Put<uint64_t>(2);
  if (is_1_2) {
    Bytes tail;
    tail.PutText(names.text()).PutText(files.text()).PutText(pc_tables.text());
    tail.Align();
    const uint32_t file_table = names_at + tail.size();
    tail.Put<uint32_t>(3).Put<uint32_t>(names_at + names.size());
    tail.Put<uint32_t>(names_at + names.size() + 10).Put<uint32_t>(0);
    const uint32_t first_record = names_at + tail.size();
    table.PutText(functions(first_record, first_record + outer.size()).text());
    table.Put<uint64_t>(file_table);
    table.PutText(tail.text()).PutText(outer.text()).PutText(last.text());
  } else {
    table.Put<uint64_t>(2);  // Files.
    if (short_entry) table.Put<uint64_t>(kText);
    uint64_t at = short_entry ? 8 + 8 * 8 : 8 + 7 * 8;
    table.Put<uint64_t>(at);
    table.Put<uint64_t>(at += names.size());
    table.Put<uint64_t>(at += 8);  // The compile unit's two files.
    table.Put<uint64_t>(at += files.size());
    table.Put<uint64_t>(at += pc_tables.size());
    table.PutText(names.text()).Put<uint32_t>(0).Put<uint32_t>(10).PutText(files.text());
    table.PutText(pc_tables.text());
    const uint32_t functions_size = short_entry ? 5 * 4 : 5 * 8;
    table.PutText(functions(functions_size, functions_size + outer.size()).text());
    table.PutText(outer.text()).PutText(last.text());
  }
  return {{table.text().begin(), table.text().end()},
          {funcdata.text().begin(), funcdata.text().end()}};
}

std::string Describe(const std::vector<GoFrame>& frames) {
  std::string text;
  for (const GoFrame& frame : frames) {
    if (!text.empty()) text += " < ";
    text += std::string(frame.function) + " " + std::string(frame.file) + ":" +
            std::to_string(frame.line) + (frame.inlined ? " inlined" : "");
  }
  return text;
}

class GoPclntabLayoutTest : public testing::TestWithParam<GoVersion> {};

TEST_P(GoPclntabLayoutTest, NamesFilesAndLines) {
  const Example example = Make(GetParam());
  const auto table = GoPclntab::Parse(example.table);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->version(), GetParam());
  EXPECT_EQ(table->function_count(), 2u);
  EXPECT_EQ(table->begin_address(), kText);
  EXPECT_EQ(table->end_address(), kText + 0x40);
  EXPECT_EQ(Describe(table->Find(kText)), "main.outer /src/a.go:11");
  EXPECT_EQ(Describe(table->Find(kText + 0x1f)), "main.outer /src/a.go:12");
  EXPECT_EQ(Describe(table->Find(kText + 0x20)), "main.last /src/a.go:40");
  EXPECT_EQ(Describe(table->Find(kText - 1)), "");
  EXPECT_EQ(Describe(table->Find(kText + 0x40)), "");
  EXPECT_EQ(Describe(table->Find(0)), "");
  EXPECT_EQ(Describe(table->Find(~uint64_t{0})), "");
}

TEST_P(GoPclntabLayoutTest, InlinedCallsWhereTheFuncdataIsKnown) {
  const Example example = Make(GetParam());
  auto table = GoPclntab::Parse(example.table);
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(Describe(table->Find(kText + 9)), "main.outer /src/b.go:300");
  if (GetParam() < GoVersion::k1_18) return;
  EXPECT_LE(table->ScoreFuncdata(8), 0);
  table->set_funcdata(ByteSpan(example.funcdata).subspan(4));  // The wrong place.
  EXPECT_LE(table->ScoreFuncdata(8), 0);
  table->set_funcdata(example.funcdata);
  EXPECT_EQ(table->ScoreFuncdata(8), 1);
  EXPECT_EQ(Describe(table->Find(kText + 9)),
            "main.inner /src/b.go:300 inlined < main.outer /src/a.go:11");
  EXPECT_EQ(Describe(table->Find(kText)), "main.outer /src/a.go:11");
}

// Whatever one byte says: no crash, no endless loop.
TEST_P(GoPclntabLayoutTest, EveryByteChangedAndEveryPrefix) {
  const Example example = Make(GetParam());
  const auto use = [&](const std::vector<uint8_t>& bytes) {
    auto table = GoPclntab::Parse(bytes);
    if (!table.ok()) return;
    table->set_funcdata(example.funcdata);
    table->ScoreFuncdata(8);
    for (const uint64_t address : {kText, kText + 9, kText + 0x20, kText + 0x3f}) {
      for (const GoFrame& frame : table->Find(address)) {
        EXPECT_LT(frame.function.size() + frame.file.size(), 2 * bytes.size());
      }
    }
  };
  for (size_t i = 0; i < example.table.size(); ++i) {
    for (const uint8_t value : {0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff}) {
      std::vector<uint8_t> bytes = example.table;
      bytes[i] = value;
      use(bytes);
    }
    use({example.table.begin(), example.table.begin() + static_cast<ptrdiff_t>(i)});
  }
}

std::string LayoutName(const testing::TestParamInfo<GoVersion>& layout) {
  static constexpr const char* kNames[] = {"go1_2", "go1_16", "go1_18", "go1_20"};
  return kNames[static_cast<int>(layout.param)];
}

INSTANTIATE_TEST_SUITE_P(Layouts, GoPclntabLayoutTest,
                         testing::Values(GoVersion::k1_2, GoVersion::k1_16, GoVersion::k1_18,
                                         GoVersion::k1_20),
                         LayoutName);

TEST(GoPclntabTest, RefusesOtherBytes) {
  EXPECT_FALSE(GoPclntab::Parse({}).ok());
  EXPECT_FALSE(GoPclntab::Parse(std::vector<uint8_t>(100, 0)).ok());
  std::vector<uint8_t> bytes = Make(GoVersion::k1_20).table;
  bytes[6] = 3;
  EXPECT_FALSE(GoPclntab::Parse(bytes).ok());
}

}  // namespace
}  // namespace ollamatrace
