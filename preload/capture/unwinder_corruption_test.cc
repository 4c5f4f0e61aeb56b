// Stacks and unwind tables that hold anything at all: short stacks, never a fault.

#include <gtest/gtest.h>
#include <link.h>
#include <sys/mman.h>

#include <cstring>
#include <memory>
#include <random>

#include "preload/capture/cfi_program.h"
#include "preload/capture/cfi_rule.h"
#include "preload/capture/cfi_section.h"
#include "preload/capture/unwinder.h"
#include "preload/capture/unwinder_modules.h"
#include "preload/capture/unwinder_test_support.h"

namespace ollamatrace::capture {
namespace {

constexpr size_t kPage = 4096;

class CorruptionTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(InitUnwinder("own"));
    RegisterLoadedModules();
  }
  ThreadUnwindCache* cache() const { return cache_.get(); }

 private:
  OwnedUnwindCache cache_;
};

// Values that a smashed stack may hold.
std::vector<uintptr_t> OddValues(uintptr_t stack, uintptr_t hole) {
  const auto code = reinterpret_cast<uintptr_t>(&OddValues);
  std::vector<uintptr_t> values = {0,
                                   1,
                                   7,
                                   8,
                                   kPage,
                                   0x4141414141414141,
                                   ~uintptr_t{0},
                                   ~uintptr_t{7},
                                   uintptr_t{1} << 47,
                                   (uintptr_t{1} << 47) - 8,
                                   uintptr_t{1} << 63,
                                   hole,
                                   hole - 8,
                                   hole + kPage,
                                   code,
                                   code + 5};
  for (const intptr_t offset : {-65536, -4096, -64, -8, -1, 0, 1, 8, 16, 24, 64, 128, 4096, 65536,
                                1 << 20, 1 << 24, 1 << 30}) {
    values.push_back(stack + static_cast<uintptr_t>(offset));
  }
  return values;
}

// Not to be inlined, with a frame pointer: what is above it in memory is the saved frame pointer,
// then the return address.
__attribute__((noinline, optimize("no-omit-frame-pointer"))) Stack WalkWithSmashed(
    ThreadUnwindCache* cache, int slot, uintptr_t value) {
  auto* const volatile words = static_cast<uintptr_t*>(__builtin_frame_address(0));
  const uintptr_t saved = words[slot];
  words[slot] = value;
  Stack stack = StackHere(cache);
  words[slot] = saved;
  return stack;
}

__attribute__((noinline, optimize("no-omit-frame-pointer"))) Stack WalkBelow(
    ThreadUnwindCache* cache, int slot, uintptr_t value) {
  Stack stack = WalkWithSmashed(cache, slot, value);
  __asm__ volatile("");
  return stack;
}

TEST_F(CorruptionTest, ASmashedStackGivesAShortOne) {
  // A page that is not there between two that are.
  auto* const pages = static_cast<char*>(
      mmap(nullptr, 3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(pages, MAP_FAILED);
  munmap(pages + kPage, kPage);
  const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  long walks = 0;
  for (int slot = 0; slot < 6; ++slot) {
    for (const uintptr_t value : OddValues(here, reinterpret_cast<uintptr_t>(pages + kPage))) {
      for (const char* backend : {"own", "fp"}) {
        ASSERT_TRUE(InitUnwinder(backend));
        EXPECT_GE(WalkBelow(cache(), slot, value).size(), 1u);  // what is remembered may be right
        EXPECT_GE(WalkBelow(cache(), slot, value).size(), 1u);
        const OwnedUnwindCache fresh;
        EXPECT_GE(WalkBelow(fresh.get(), slot, value).size(), 1u);
        walks += 3;
      }
    }
  }
  std::printf("%ld walks\n", walks);
  munmap(pages, kPage);
  munmap(pages + 2 * kPage, kPage);
}

TEST_F(CorruptionTest, RandomStacksGiveShortOnes) {
  // A made-up stack, mapped between holes, full of random numbers and of things that look right.
  constexpr size_t kBytes = 4 * kPage;
  auto* const memory = static_cast<char*>(
      mmap(nullptr, kBytes + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  auto* const words = reinterpret_cast<uintptr_t*>(memory + kPage);
  ASSERT_EQ(mprotect(words, kBytes, PROT_READ | PROT_WRITE), 0);
  const auto begin = reinterpret_cast<uintptr_t>(words);
  constexpr size_t kWords = kBytes / sizeof(uintptr_t);
  const Stack real = StackHere(cache());
  std::mt19937_64 random(1);
  const auto odd = OddValues(begin, begin + kBytes);
  long frames = 0;
  for (int round = 0; round < 20'000; ++round) {
    for (int i = 0; i < 40; ++i) {
      uintptr_t value = random();
      switch (random() % 4) {
        case 0:
          value = begin + value % kBytes / 8 * 8;
          break;
        case 1:
          value = real[value % real.size()];
          break;
        case 2:
          value = odd[value % odd.size()];
          break;
        default:
          break;
      }
      words[random() % kWords] = value;
    }
    const CallerFrame start = {
        real[random() % real.size()], begin + random() % (kWords + 1) * 8,
        random() % 3 == 0 ? odd[random() % odd.size()] : begin + random() % kWords * 8};
    uintptr_t pcs[64];
    const UnwindResult result = Unwind(cache(), start, pcs, 64);
    ASSERT_GE(result.depth, 1);
    ASSERT_EQ(pcs[0], start.pc);
    frames += result.depth;
  }
  std::printf("%ld frames\n", frames);
  EXPECT_GT(frames, 25'000);  // some of it looks like a stack
  munmap(memory, kBytes + 2 * kPage);
}

TEST_F(CorruptionTest, AStartThatCannotBeReadGivesOneFrame) {
  const auto pc = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  for (const uintptr_t sp : {uintptr_t{0}, uintptr_t{8}, uintptr_t{4096}, ~uintptr_t{7},
                             uintptr_t{1} << 63, (uintptr_t{1} << 47) - 4096}) {
    uintptr_t pcs[16];
    EXPECT_EQ(Unwind(cache(), {pc, sp, sp}, pcs, 16).depth, 1) << sp;
    EXPECT_EQ(pcs[0], pc);
  }
}

// --- Unwind tables

// A module's .eh_frame_hdr and all that follows it in its segment, in memory of its own that ends
// where nothing is mapped. Its addresses are relative to themselves: those of the code move along.
class CopiedTables {
 public:
  explicit CopiedTables(const CfiSection& original) : original_(original) {
    const uint8_t* begin = std::min(original.header, original.begin);
    const uint8_t* end = std::max(original.header_end, original.end);
    size_ = static_cast<size_t>(end - begin);
    bytes_ = (size_ + 15 + kPage - 1) / kPage * kPage;
    memory_ = static_cast<uint8_t*>(
        mmap(nullptr, bytes_ + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(memory_ + kPage, bytes_, PROT_READ | PROT_WRITE);
    copy_ = memory_ + kPage + bytes_ - size_;
    // The rules of procedure linkage tables depend on an address's last four bits.
    copy_ -= (reinterpret_cast<uintptr_t>(copy_) - reinterpret_cast<uintptr_t>(begin)) % 16;
    delta_ = reinterpret_cast<uintptr_t>(copy_) - reinterpret_cast<uintptr_t>(begin);
    Restore();
    section_.header = copy_ + (original.header - begin);
    section_.header_end = copy_ + (original.header_end - begin);
    section_.begin = copy_ + (original.begin - begin);
    section_.end = copy_ + (original.end - begin);
  }
  ~CopiedTables() { munmap(memory_, bytes_ + 2 * kPage); }

  void Restore() { std::memcpy(copy_, std::min(original_.header, original_.begin), size_); }
  uint8_t* bytes() { return copy_; }
  size_t size() const { return size_; }
  uintptr_t delta() const { return delta_; }
  const CfiSection& section() const { return section_; }

 private:
  const CfiSection original_;
  uint8_t* memory_;
  size_t bytes_;
  uint8_t* copy_;
  size_t size_;
  uintptr_t delta_;
  CfiSection section_;
};

ModuleTables TablesOf(const void* code) {
  ModuleTables tables;
  FindModule(reinterpret_cast<uintptr_t>(code), &tables);
  return tables;
}

bool WorkOut(const CfiSection& section, uintptr_t pc, UnwindRule* rule) {
  FrameInfo info;
  const auto rows = std::make_unique<CfiRows>();
  if (!FindFrameInfo(section, pc, &info) || !RunCfiProgram(info, pc, rows.get())) return false;
  *rule = CompileRule(rows->row, info.common.signal_frame, pc);
  return true;
}

TEST_F(CorruptionTest, ACopyOfTheTablesSaysTheSame) {
  const ModuleTables tables = TablesOf(reinterpret_cast<const void*>(&std::free));
  ASSERT_FALSE(tables.cfi.empty());
  CopiedTables copy(tables.cfi);
  long found = 0;
  for (uintptr_t pc = tables.code_begin; pc < tables.code_end; pc += 31) {
    UnwindRule rule;
    UnwindRule copied_rule;
    const bool known = WorkOut(tables.cfi, pc, &rule);
    ASSERT_EQ(WorkOut(copy.section(), pc + copy.delta(), &copied_rule), known);
    if (!known) continue;
    ++found;
    ASSERT_EQ(rule.cfa_kind, copied_rule.cfa_kind);
    ASSERT_EQ(rule.cfa_offset, copied_rule.cfa_offset);
    ASSERT_EQ(rule.bp_words, copied_rule.bp_words);
  }
  EXPECT_GT(found, 1000);
}

TEST_F(CorruptionTest, DamagedTablesAreNeverReadBeyondTheirEnd) {
  const ModuleTables tables = TablesOf(reinterpret_cast<const void*>(&std::free));
  ASSERT_FALSE(tables.cfi.empty());
  CopiedTables copy(tables.cfi);
  std::mt19937 random(1);
  const uintptr_t code_bytes = tables.code_end - tables.code_begin;
  const auto header_offset = static_cast<size_t>(copy.section().header - copy.bytes());
  long known = 0;
  for (int round = 0; round < 400; ++round) {
    if (round % 8 == 0) copy.Restore();
    for (int i = 0; i < 1000; ++i) copy.bytes()[random() % copy.size()] ^= 1u << random() % 8;
    for (int i = 0; i < 200; ++i) {
      copy.bytes()[random() % copy.size()] = static_cast<uint8_t>(random());
    }
    if (round % 4 == 0) copy.bytes()[header_offset + random() % 12] ^= 1u << random() % 8;
    for (int i = 0; i < 200; ++i) {
      UnwindRule rule;
      if (WorkOut(copy.section(), tables.code_begin + copy.delta() + random() % code_bytes,
                  &rule)) {
        ++known;
      }
    }
  }
  std::printf("%ld rules\n", known);
  EXPECT_GT(known, 10'000);  // most damage is not at the beginning
}

TEST_F(CorruptionTest, TablesThatAreCutShortAreNotRead) {
  const ModuleTables tables = TablesOf(reinterpret_cast<const void*>(&std::free));
  ASSERT_FALSE(tables.cfi.empty());
  CopiedTables copy(tables.cfi);
  std::mt19937 random(2);
  const uintptr_t code_bytes = tables.code_end - tables.code_begin;
  for (int round = 0; round < 2000; ++round) {
    // The end of the memory is the end of the tables: bounds that move it are shortened ones.
    CfiSection section = copy.section();
    section.begin += random() % static_cast<size_t>(section.end - section.begin);
    if (round % 2 == 0) {
      section.header_end = section.header + random() % 4096;
    }
    UnwindRule rule;
    WorkOut(section, tables.code_begin + copy.delta() + random() % code_bytes, &rule);
  }
}

TEST_F(CorruptionTest, AnyInstructionsAndExpressionsEnd) {
  std::mt19937 random(3);
  auto* const memory = static_cast<uint8_t*>(
      mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(mprotect(memory + kPage, kPage, PROT_NONE), 0);
  const auto rows = std::make_unique<CfiRows>();
  long ran = 0;
  for (int round = 0; round < 200'000; ++round) {
    const size_t length = random() % 40;
    uint8_t* const begin = memory + kPage - length;
    for (size_t i = 0; i < length; ++i) {
      begin[i] = static_cast<uint8_t>(random() % 2 == 0 ? random() : random() % 0x30);
    }
    FrameInfo info;
    info.pc_begin = 0x1000;
    info.pc_end = 0x2000;
    info.common.data_alignment = -8;
    const size_t middle = length == 0 ? 0 : random() % length;
    info.common.instructions = {begin, begin + middle};
    info.instructions = {begin + middle, begin + length};
    if (RunCfiProgram(info, 0x1800, rows.get())) {
      ++ran;
      CompileRule(rows->row, random() % 2 == 0, 0x1800);
    }
    SymbolicValue value;
    const uintptr_t initial = 0x7000;
    EvaluateSymbolically({begin, begin + length}, 0x1800, round % 2 == 0 ? &initial : nullptr,
                         &value);
  }
  EXPECT_GT(ran, 1000);
  munmap(memory, 2 * kPage);
}

}  // namespace
}  // namespace ollamatrace::capture
