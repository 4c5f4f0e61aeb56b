// What a thread remembers of its last stack: never changes a result, and is counted right.

#include <gtest/gtest.h>
#include <setjmp.h>

#include <map>
#include <set>
#include <stdexcept>

#include "preload/capture/unwinder.h"
#include "preload/capture/unwinder_shapes.h"
#include "preload/capture/unwinder_test_support.h"

namespace ollamatrace::capture {
namespace {

class ReuseTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(InitUnwinder("own"));
    RegisterLoadedModules();
  }
  ThreadUnwindCache* cache() const { return cache_.get(); }

 private:
  OwnedUnwindCache cache_;
};

void Use(void* memory) { __asm__ volatile("" : : "r"(memory) : "memory"); }

// A tree of calls through functions with frames of different kinds, drawn from `state`; at each of
// its nodes the stack is taken with the thread's cache and with none.
struct Tree {
  ThreadUnwindCache* cache;
  uint32_t state;
  int max = kMaxTestDepth;
  bool max_varies = false;
  Stack last;
  long walks = 0;
  long unchanged_frames = 0;
  std::map<uint64_t, Stack> known;  // by fingerprint
  long recognised = 0;

  uint32_t Draw(uint32_t limit) {
    state = state * 1664525 + 1013904223;
    return (state >> 16) % limit;
  }
};

__attribute__((noinline)) void Compare(Tree* tree) {
  const CallerFrame start = OLLAMATRACE_CALLER_FRAME();
  uintptr_t pcs[kMaxTestDepth];
  uintptr_t fresh_pcs[kMaxTestDepth];
  if (tree->max_varies) tree->max = 1 + static_cast<int>(tree->Draw(30));
  uint64_t fingerprints[StackShapeTable::kWays];
  for (int way = 0; way < StackShapeTable::kWays; ++way) {
    const StackShape* const shape = FindShape(tree->cache, start, tree->max, way);
    fingerprints[way] = shape == nullptr ? 0 : Fingerprint(*shape, start.frame_pointer);
  }
  const UnwindResult result = Unwind(tree->cache, start, pcs, tree->max);
  const OwnedUnwindCache none;
  const UnwindResult fresh = Unwind(none.get(), start, fresh_pcs, tree->max);
  ASSERT_EQ(Stack(pcs, pcs + result.depth), Stack(fresh_pcs, fresh_pcs + fresh.depth));
  for (const uint64_t fingerprint : fingerprints) {
    const auto seen = tree->known.find(fingerprint);
    if (fingerprint == 0 || seen == tree->known.end()) continue;
    ++tree->recognised;
    ASSERT_EQ(seen->second, Stack(fresh_pcs, fresh_pcs + fresh.depth)) << "another's fingerprint";
  }
  if (result.fingerprint != 0) {
    const Stack& stack =
        tree->known.try_emplace(result.fingerprint, pcs, pcs + result.depth).first->second;
    ASSERT_EQ(stack, Stack(pcs, pcs + result.depth)) << "two stacks, one fingerprint";
  }
  ASSERT_EQ(fresh.unchanged, 0);
  ASSERT_LE(result.unchanged, result.depth);
  ASSERT_LE(static_cast<size_t>(result.unchanged), tree->last.size());
  ASSERT_TRUE(std::equal(pcs + result.depth - result.unchanged, pcs + result.depth,
                         tree->last.end() - result.unchanged))
      << "not the outermost frames of the last result";
  tree->last.assign(pcs, pcs + result.depth);
  ++tree->walks;
  tree->unchanged_frames += result.unchanged;
}

void Grow(Tree* tree, int depth);

__attribute__((noinline)) void Plain(Tree* tree, int depth) {
  Grow(tree, depth);
  __asm__ volatile("");
}
// Another function whose frame cannot be told from Plain's but by the return address into it.
__attribute__((noinline)) void PlainToo(Tree* tree, int depth) {
  Grow(tree, depth);
  __asm__ volatile("# too");
}
__attribute__((noinline)) void WithBuffer(Tree* tree, int depth) {
  char memory[300];
  Use(memory);
  Grow(tree, depth);
  Use(memory);
}
__attribute__((noinline)) void Realigning(Tree* tree, int depth) {
  alignas(64) char memory[64];
  Use(memory);
  Grow(tree, depth);
  Use(memory);
}
__attribute__((noinline)) void WithAlloca(Tree* tree, int depth) {
  Use(__builtin_alloca(16 + tree->Draw(4) * 16));
  Grow(tree, depth);
  __asm__ volatile("");
}
__attribute__((noinline)) void Catching(Tree* tree, int depth) {
  try {
    Grow(tree, depth);
    if (tree->Draw(3) == 0) throw std::runtime_error("drawn");
  } catch (const std::runtime_error&) {
    Compare(tree);
  }
}

__attribute__((noinline)) void Grow(Tree* tree, int depth) {
  const uint32_t children = 1 + tree->Draw(3);
  for (uint32_t i = 0; i < children; ++i) {
    if (depth == 0 || tree->Draw(3) == 0) Compare(tree);
    if (depth == 0 || testing::Test::HasFatalFailure()) return;
    switch (tree->Draw(8)) {
      case 0:
        Plain(tree, depth - 1);
        break;
      case 1:
        WithBuffer(tree, depth - 1);
        break;
      case 2:
        Realigning(tree, depth - 1);
        break;
      case 3:
        WithAlloca(tree, depth - 1);
        break;
      case 4:
      case 5:
        PlainToo(tree, depth - 1);
        break;
      case 6:
        Catching(tree, depth - 1);
        break;
      default:
        if (tree->Draw(8) == 0) throw std::runtime_error("drawn");
        Compare(tree);
        break;
    }
  }
}

void GrowTrees(Tree* tree, int trees, int depth) {
  for (int i = 0; i < trees; ++i) {
    try {
      Grow(tree, depth);
    } catch (const std::runtime_error&) {
    }
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST_F(ReuseTest, NeverChangesAResult) {
  Tree tree = {.cache = cache(), .state = 1};
  GrowTrees(&tree, 60, 9);
  EXPECT_GT(tree.walks, 5'000);
  EXPECT_GT(tree.unchanged_frames, tree.walks * 5);
  EXPECT_GT(tree.recognised, tree.walks / 20);
  std::printf("%ld walks, %ld frames unchanged, %ld stacks recognised\n", tree.walks,
              tree.unchanged_frames, tree.recognised);
}

TEST_F(ReuseTest, NeverChangesAResultThatIsCut) {
  for (int max : {1, 2, 5, 12, 20}) {
    Tree tree = {.cache = cache(), .state = static_cast<uint32_t>(max)};
    tree.max = max;
    GrowTrees(&tree, 10, 9);
    EXPECT_GT(tree.walks, 500);
  }
}

TEST_F(ReuseTest, MaxMayChange) {
  Tree tree = {.cache = cache(), .state = 7};
  tree.max_varies = true;
  GrowTrees(&tree, 40, 9);
  EXPECT_GT(tree.walks, 500);
}

__attribute__((noinline)) int TakeTwice(ThreadUnwindCache* cache, size_t* depth) {
  int unchanged = -1;
  for (int i = 0; i < 2; ++i) *depth = StackHere(cache, kMaxTestDepth, &unchanged).size();
  return unchanged;
}

TEST_F(ReuseTest, CountsWhatIsUnchanged) {
  size_t depth = 0;
  int unchanged = TakeTwice(cache(), &depth);
  EXPECT_EQ(unchanged, static_cast<int>(depth));
  const size_t here = StackHere(cache(), kMaxTestDepth, &unchanged).size();
  EXPECT_EQ(unchanged, static_cast<int>(here) - 1);  // this function goes on elsewhere
  const OwnedUnwindCache other;
  StackHere(other.get(), kMaxTestDepth, &unchanged);
  EXPECT_EQ(unchanged, 0);
}

TEST_F(ReuseTest, ForgetsWhenAModuleGoes) {
  size_t depth = 0;
  TakeTwice(cache(), &depth);
  UnregisterModule(1);
  int unchanged = -1;
  StackHere(cache(), kMaxTestDepth, &unchanged);
  EXPECT_EQ(unchanged, 0);
}

// Two functions whose frames have the same size and the same place, called in turn: only the return
// addresses in the stack tell them apart.
__attribute__((noinline)) Stack Inner(ThreadUnwindCache* cache) {
  char memory[64];
  Use(memory);
  return StackHere(cache);
}
__attribute__((noinline)) Stack One(ThreadUnwindCache* cache) {
  Stack stack = Inner(cache);
  __asm__ volatile("# one");
  return stack;
}
__attribute__((noinline)) Stack Other(ThreadUnwindCache* cache) {
  Stack stack = Inner(cache);
  __asm__ volatile("# other");
  return stack;
}

TEST_F(ReuseTest, SeesAnOuterFrameThatChanged) {
  Stack one[3];
  Stack other[3];
  for (int i = 0; i < 3; ++i) {
    one[i] = One(cache());
    other[i] = Other(cache());
  }
  EXPECT_EQ(one[0][0], other[0][0]);
  EXPECT_NE(one[0][1], other[0][1]);
  for (int i = 1; i < 3; ++i) {
    EXPECT_EQ(one[i][1], one[0][1]);
    EXPECT_EQ(other[i][1], other[0][1]);
  }
}

jmp_buf g_jump;
volatile bool g_jumps = true;

__attribute__((noinline)) void JumpFrom(ThreadUnwindCache* cache, int depth) {
  char memory[100];
  Use(memory);
  if (depth == 0) {
    StackHere(cache);
    if (g_jumps) longjmp(g_jump, 1);
  }
  if (depth > 0) JumpFrom(cache, depth - 1);
  Use(memory);
}

__attribute__((noinline)) void JumpOnce(ThreadUnwindCache* cache, int depth) {
  if (setjmp(g_jump) == 0) JumpFrom(cache, depth);
}

TEST_F(ReuseTest, IsRightAfterLongjmp) {
  const Stack outer = StackHere(cache());
  for (int depth = 0; depth < 20; ++depth) {
    JumpOnce(cache(), depth);
    EXPECT_EQ(FramesAbove(StackHere(cache()), outer), 0);
    EXPECT_EQ(FramesAbove(One(cache()), outer), 2);
  }
}

// Recognises its caller's stack as a hook does; false: it was walked, and is known from now on.
__attribute__((noinline)) bool Recognise(ThreadUnwindCache* cache, std::set<uint64_t>* known) {
  const CallerFrame start = OLLAMATRACE_CALLER_FRAME();
  for (int way = 0; way < StackShapeTable::kWays; ++way) {
    const StackShape* const shape = FindShape(cache, start, kMaxTestDepth, way);
    if (shape == nullptr || known->count(Fingerprint(*shape, start.frame_pointer)) == 0) continue;
    cache->shapes.MoveToFront(start.pc, start.sp, way);
    return true;
  }
  uintptr_t pcs[kMaxTestDepth];
  known->insert(Unwind(cache, start, pcs, kMaxTestDepth).fingerprint);
  known->erase(0);
  return false;
}

__attribute__((noinline)) int RecogniseBelow(ThreadUnwindCache* cache, std::set<uint64_t>* known,
                                             int depth) {
  int recognised = 0;
  if (depth == 0) {
    for (int i = 0; i < 3; ++i) recognised += Recognise(cache, known) ? 1 : 0;
  } else {
    recognised = RecogniseBelow(cache, known, depth - 1);
  }
  __asm__ volatile("" : "+r"(recognised));
  return recognised;
}

TEST_F(ReuseTest, RecognisesDeepStacks) {
  for (const int depth : {5, 60, 80}) {
    std::set<uint64_t> known;
    EXPECT_EQ(RecogniseBelow(cache(), &known, depth), 2) << depth;
  }
  std::set<uint64_t> known;
  EXPECT_EQ(RecogniseBelow(cache(), &known, 200), 0) << "that deep? then say so in UNWINDER.md";
}

// Frames that begin and end at the same places, with another one between them that does not.
__attribute__((noinline)) bool InnerPart(ThreadUnwindCache* cache, std::set<uint64_t>* known,
                                         size_t bytes) {
  Use(__builtin_alloca(bytes));
  const bool recognised = Recognise(cache, known);
  __asm__ volatile("");
  return recognised;
}
__attribute__((noinline)) bool OuterPart(ThreadUnwindCache* cache, std::set<uint64_t>* known,
                                         size_t bytes) {
  Use(__builtin_alloca(bytes));
  const bool recognised = InnerPart(cache, known, 1024 - bytes);
  __asm__ volatile("");
  return recognised;
}

TEST_F(ReuseTest, KeepsSeveralShapesOfAPlace) {
  std::set<uint64_t> known;
  for (int round = 0; round < 3; ++round) {
    for (int shape = 1; shape <= StackShapeTable::kWays; ++shape) {
      EXPECT_EQ(OuterPart(cache(), &known, static_cast<size_t>(shape) * 64), round != 0);
    }
  }
  EXPECT_EQ(known.size(), size_t{StackShapeTable::kWays});
}

TEST(StackShapeTest, RestsWhereNoStackComesAgain) {
  StackShape shape = {};
  int looked = 0;
  for (int i = 0; i < 100'000; ++i) {
    if (shape.Rests()) continue;
    ++looked;
    shape.CountFailure();
  }
  EXPECT_LT(looked, 4096 + 100'000 / 60);
  while (!shape.Rests()) shape.CountFailure();
  shape.EndRest();
  EXPECT_FALSE(shape.Rests()) << "a stack came again";
}

TEST(StackShapeTest, NeverRestsWhereEveryThirdStackComesAgain) {
  StackShape shape = {};
  for (int i = 0; i < 100'000; ++i) {
    EXPECT_FALSE(shape.Rests());
    i % 3 == 0 ? shape.CountSuccess() : shape.CountFailure();
  }
}

}  // namespace
}  // namespace ollamatrace::capture
