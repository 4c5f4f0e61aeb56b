// Unwind against libunwind's unw_step, frame for frame, on the same stacks: at every allocation
// that libc, libstdc++ and Python make in some workloads, inside callbacks, and, with the processor
// in single step, at every single instruction of others (so also between the instructions of
// prologues and epilogues).

#include <dlfcn.h>
#include <glob.h>
#include <gtest/gtest.h>
#include <search.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <locale>
#include <map>
#include <numeric>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "preload/capture/libunwind_walk.h"
#include "preload/capture/unwinder.h"
#include "preload/capture/unwinder_test_support.h"

namespace ollamatrace::capture {
namespace {

constexpr int kMaxDepth = 512;

struct Totals {
  long walks = 0;
  long frames = 0;
  long deepest = 0;
  long reused_frames = 0;
  // Differences that have a reason:
  long not_code = 0;  // the same as far as both go, but libunwind ends in frames that are no code
  long gave_up = 0;   // the same, then libunwind stops; own goes on to where all stacks begin
  // Differences that have none:
  long not_started = 0;    // libunwind did not come by the caller
  long shorter = 0;        // than libunwind's
  long longer = 0;         // than libunwind's
  long other_frames = 0;   // neither is the other's beginning
  long reuse_differs = 0;  // from a walk without memory
};

// Everything that a comparison touches is here and is not allocated: it runs inside malloc and in
// signal handlers.
struct Comparison {
  LibunwindWalk libunwind;
  ThreadUnwindCache* cache = nullptr;
  ThreadUnwindCache* forgetful_cache = nullptr;
  bool enabled = false;
  long most_walks = 1'000'000;
  Totals totals;
  int printed = 0;
  uintptr_t own[kMaxDepth];
  uintptr_t own_forgetful[kMaxDepth];
  uintptr_t theirs[kMaxDepth];
  uintptr_t outermost[3] = {};  // how each stack of this program ends
};
Comparison g_comparison;

bool IsCode(uintptr_t pc) {
  Dl_info info;
  return dladdr(reinterpret_cast<void*>(pc & ~kExactPc), &info) != 0;
}

void PrintStack(const char* title, const uintptr_t* pcs, int depth) {
  std::fprintf(stderr, "%s\n", title);
  for (int i = 0; i < depth; ++i) {
    Dl_info info = {};
    dladdr(reinterpret_cast<void*>(pcs[i] & ~kExactPc), &info);
    std::fprintf(stderr, "  %3d %#lx %s+%#lx %s\n", i, pcs[i],
                 info.dli_fname != nullptr ? info.dli_fname : "?",
                 pcs[i] - reinterpret_cast<uintptr_t>(info.dli_fbase),
                 info.dli_sname != nullptr ? info.dli_sname : "");
  }
}

__attribute__((noinline)) void Compare(const CallerFrame& start) {
  Comparison& c = g_comparison;
  const UnwindResult own = Unwind(c.cache, start, c.own, kMaxDepth);
  std::memset(static_cast<void*>(c.forgetful_cache), 0, kThreadUnwindCacheBytes);
  const UnwindResult forgetful = Unwind(c.forgetful_cache, start, c.own_forgetful, kMaxDepth);

  const int depth = c.libunwind.Walk(start, c.theirs, kMaxDepth);

  Totals& t = c.totals;
  ++t.walks;
  t.frames += own.depth;
  t.reused_frames += own.unchanged;
  t.deepest = std::max<long>(t.deepest, own.depth);
  const int common = std::min(own.depth, depth);
  const int code_depth =
      static_cast<int>(std::find_if_not(c.theirs, c.theirs + depth, IsCode) - c.theirs);
  bool differs = true;
  if (own.depth != forgetful.depth || !std::equal(c.own, c.own + own.depth, c.own_forgetful)) {
    ++t.reuse_differs;
  } else if (depth == 0) {
    ++t.not_started;
  } else if (own.depth == depth && std::equal(c.own, c.own + depth, c.theirs)) {
    differs = false;
  } else if (code_depth < depth &&
             std::equal(c.own, c.own + std::min(own.depth, code_depth), c.theirs)) {
    // Throwing overwrites the frame of _Unwind_RaiseException before it leaves it.
    ++t.not_code;
    differs = false;
  } else if (own.depth > depth && std::equal(c.theirs, c.theirs + depth, c.own) &&
             std::equal(std::begin(c.outermost), std::end(c.outermost),
                        c.own + own.depth - std::size(c.outermost))) {
    // At the first instruction of a landing pad, where it takes the row of the instruction before.
    ++t.gave_up;
    differs = false;
  } else if (!std::equal(c.own, c.own + common, c.theirs)) {
    ++t.other_frames;
  } else if (own.depth < depth) {
    ++t.shorter;
  } else {
    ++t.longer;
  }
  if (differs && c.printed++ < 5) {
    PrintStack("own:", c.own, own.depth);
    PrintStack("own, without memory:", c.own_forgetful, forgetful.depth);
    PrintStack("libunwind:", c.theirs, depth);
  }
}

// Stands where a hook would stand.
__attribute__((noinline)) void CompareHere() {
  if (!g_comparison.enabled || g_comparison.totals.walks == g_comparison.most_walks) return;
  const CallerFrame start = OLLAMATRACE_CALLER_FRAME();
  g_comparison.enabled = false;  // what libunwind allocates is not looked at
  Compare(start);
  g_comparison.enabled = true;
}

class DifferentialTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!g_comparison.libunwind.Load()) GTEST_SKIP() << "no libunwind.so.8";
    ASSERT_TRUE(InitUnwinder("own"));
    RegisterLoadedModules();
    g_comparison.cache = cache_.get();
    g_comparison.forgetful_cache = forgetful_cache_.get();
    g_comparison.totals = Totals();
    g_comparison.printed = 0;
    g_comparison.most_walks = 1'000'000;
    g_comparison.enabled = true;
    CompareHere();  // so that what libunwind sets up once is not part of any workload
    g_comparison.enabled = false;
    const UnwindResult here =
        Unwind(cache_.get(), OLLAMATRACE_CALLER_FRAME(), g_comparison.own, kMaxDepth);
    ASSERT_GT(here.depth, 3);
    std::copy_n(g_comparison.own + here.depth - 3, 3, g_comparison.outermost);
    g_comparison.totals = Totals();
  }
  void TearDown() override { g_comparison.enabled = false; }

  void ExpectNoDifference(long least_walks) {
    g_comparison.enabled = false;
    const Totals& t = g_comparison.totals;
    std::printf("%ld walks, %.1f frames each (%ld at most), %.0f %% of them reused\n", t.walks,
                static_cast<double>(t.frames) / static_cast<double>(t.walks), t.deepest,
                100.0 * static_cast<double>(t.reused_frames) / static_cast<double>(t.frames));
    std::printf("explained: libunwind ends in no code %ld, libunwind gave up %ld\n", t.not_code,
                t.gave_up);
    std::printf(
        "unexplained: not started %ld, shorter %ld, longer %ld, other frames %ld, "
        "reuse differs %ld\n",
        t.not_started, t.shorter, t.longer, t.other_frames, t.reuse_differs);
    EXPECT_GE(t.walks, least_walks);
    EXPECT_EQ(t.not_started, 0);
    EXPECT_EQ(t.shorter, 0);
    EXPECT_EQ(t.longer, 0);
    EXPECT_EQ(t.other_frames, 0);
    EXPECT_EQ(t.reuse_differs, 0);
  }

  OwnedUnwindCache cache_;
  OwnedUnwindCache forgetful_cache_;
};

// --- Workloads

int CompareInts(const void* a, const void* b) {
  CompareHere();
  return *static_cast<const int*>(a) - *static_cast<const int*>(b);
}

void SortThings() {
  std::vector<int> values(150);
  unsigned seed = 1;
  auto shuffle = [&] {
    for (int& value : values) value = static_cast<int>((seed = seed * 1103515245 + 12345) >> 16);
  };
  const auto less = [](int a, int b) {
    CompareHere();
    return a < b;
  };
  shuffle();
  qsort(values.data(), values.size(), sizeof(int), CompareInts);
  shuffle();
  std::sort(values.begin(), values.end(), less);
  shuffle();
  std::stable_sort(values.begin(), values.end(), less);
  std::make_heap(values.begin(), values.end(), less);
  std::nth_element(values.begin(), values.begin() + 20, values.end(), less);
}

void MatchThings() {
  const std::regex pattern("(a|b)*(c[d-f]+)?(.*)x([0-9]{1,3})$");
  std::smatch match;
  for (const char* text : {"ababcdefxyzx12", "cddx1", "bbbbbbbbx123", "nothing"}) {
    const std::string subject(text);
    std::regex_search(subject, match, pattern);
    std::regex_replace(subject, std::regex("[a-c]"), "<$&>");
  }
}

void FormatThings() {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  for (int i = 0; i < 20; ++i) out << i << ' ' << i * 1.5 << ' ' << std::string(40, 'x') << '\n';
  std::istringstream in(out.str());
  std::map<std::string, int> words;
  for (std::string word; in >> word;) ++words[word];
  char* text = nullptr;
  size_t size = 0;
  FILE* memory = open_memstream(&text, &size);
  for (int i = 0; i < 50; ++i) std::fprintf(memory, "%d %s %g %ls\n", i, "text", i / 3.0, L"wide");
  std::fclose(memory);
  std::free(text);
}

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

__attribute__((noinline)) int Throw(int depth) {
  CompareHere();
  if (depth == 0) throw Failure("as asked for");
  std::string held(30, 'h');
  const int result = Throw(depth - 1) + static_cast<int>(held.size());
  __asm__ volatile("");
  return result;
}

void ThrowThings() {
  for (int depth = 0; depth < 12; ++depth) {
    try {
      Throw(depth);
    } catch (const Failure& failure) {
      CompareHere();
    }
  }
}

void CallBackFromLibc() {
  void* tree = nullptr;
  static int keys[30];
  for (int i = 0; i < 30; ++i) {
    keys[i] = i * 7 % 30;
    tsearch(&keys[i], &tree, CompareInts);
  }
  twalk(tree, [](const void*, VISIT, int) { CompareHere(); });
  tdestroy(tree, [](void*) { CompareHere(); });
  dl_iterate_phdr(
      [](dl_phdr_info*, size_t, void*) {
        CompareHere();
        return 0;
      },
      nullptr);
  glob_t found;
  if (glob("/usr/*/*.h", 0, nullptr, &found) == 0) globfree(&found);
}

// Functions with stacks of uncommon shape.
void Use(void* memory) { __asm__ volatile("" : : "r"(memory) : "memory"); }

__attribute__((noinline)) void WithAlloca(int n) {
  auto* memory = static_cast<char*>(__builtin_alloca(static_cast<size_t>(n) * 16 + 1));
  Use(memory);
  CompareHere();
  if (n > 0) WithAlloca(n - 1);
  Use(memory);
}

__attribute__((noinline)) void WithAlignment(int n) {
  alignas(64) char memory[128];
  Use(memory);
  CompareHere();
  if (n > 0) WithAlignment(n - 1);
  Use(memory);
}

__attribute__((noinline)) void WithAlignmentAndAlloca(int n) {
  alignas(128) char memory[128];
  auto* more = static_cast<char*>(__builtin_alloca(static_cast<size_t>(n) * 24 + 1));
  Use(memory);
  Use(more);
  CompareHere();
  if (n > 0) WithAlignmentAndAlloca(n - 1);
  Use(memory);
  Use(more);
}

__attribute__((noinline, optimize("no-omit-frame-pointer"))) void WithFramePointer(int n) {
  CompareHere();
  if (n > 0) WithFramePointer(n - 1);
  __asm__ volatile("");
}

__attribute__((noinline)) int WithManyArguments(int n, int a, int b, int c, int d, int e, int f,
                                                int g, int h) {
  CompareHere();
  if (n == 0) return a + b + c + d + e + f + g + h;
  return WithManyArguments(n - 1, b, c, d, e, f, g, h, a) + 1;
}

void ShapeStacks() {
  for (int n = 0; n < 10; ++n) {
    WithAlloca(n);
    WithAlignment(n);
    WithAlignmentAndAlloca(n);
    WithFramePointer(n);
    WithManyArguments(n, 1, 2, 3, 4, 5, 6, 7, 8);
  }
}

// --- Single step

constexpr unsigned long kTrapFlag = 0x100;
volatile bool g_stepping;
long g_steps_left;

// Every instruction of the code between StartStepping and StopStepping traps to it. The handler's
// caller is the kernel's signal frame.
void OnTrap(int, siginfo_t*, void* context) {
  const CallerFrame start = OLLAMATRACE_CALLER_FRAME();
  if (g_stepping && --g_steps_left >= 0) {
    Compare(start);
  } else {
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &=
        ~static_cast<greg_t>(kTrapFlag);
  }
}

// Not inlined, and without locals: nothing lies where it pushes.
__attribute__((noinline)) void StartStepping(long steps) {
  g_steps_left = steps;
  g_stepping = true;
  static_assert(kTrapFlag == 0x100);
  __asm__ volatile("pushfq\n\torl $0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
}

// At the next instruction OnTrap clears the flag.
void StopStepping() { g_stepping = false; }

__attribute__((noinline)) int ThrowQuietly(int depth) {
  if (depth == 0) throw Failure("as asked for");
  std::string held(30, 'h');
  const int result = ThrowQuietly(depth - 1) + static_cast<int>(held.size());
  __asm__ volatile("");
  return result;
}

class SteppingTest : public DifferentialTest {
 protected:
  void SetUp() override {
    DifferentialTest::SetUp();
    if (IsSkipped()) return;
    stack_.resize(64 << 10);
    const stack_t alternate = {stack_.data(), 0, stack_.size()};
    ASSERT_EQ(sigaltstack(&alternate, nullptr), 0);
    struct sigaction action = {};
    action.sa_sigaction = OnTrap;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    ASSERT_EQ(sigaction(SIGTRAP, &action, nullptr), 0);
  }
  void TearDown() override {
    g_stepping = false;
    DifferentialTest::TearDown();
    signal(SIGTRAP, SIG_DFL);
    const stack_t none = {nullptr, SS_DISABLE, 0};
    sigaltstack(&none, nullptr);
  }
  std::vector<char> stack_;
};

// --- Tests

TEST_F(DifferentialTest, Workloads) {
  for (int round = 0; round < 13; ++round) {
    g_comparison.enabled = true;
    SortThings();
    MatchThings();
    FormatThings();
    ThrowThings();
    CallBackFromLibc();
    ShapeStacks();
    g_comparison.enabled = false;
  }
  ExpectNoDifference(100'000);
}

TEST_F(DifferentialTest, Python) {
  void* python = nullptr;
  for (const char* name :
       {"libpython3.11.so.1.0", "libpython3.12.so.1.0", "libpython3.13.so.1.0"}) {
    if (python == nullptr) python = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
  }
  if (python == nullptr) GTEST_SKIP() << "no libpython3";
  RegisterLoadedModules();
  setenv("PYTHONMALLOC", "malloc", 1);
  const auto initialize = reinterpret_cast<void (*)(int)>(dlsym(python, "Py_InitializeEx"));
  const auto run =
      reinterpret_cast<int (*)(const char*, void*)>(dlsym(python, "PyRun_SimpleStringFlags"));
  ASSERT_NE(initialize, nullptr);
  ASSERT_NE(run, nullptr);
  initialize(0);
  g_comparison.most_walks = 8'000;  // its stacks are deep, and libunwind takes its time
  g_comparison.enabled = true;
  EXPECT_EQ(run("import json\n"
                "def nest(n): return [nest(n - 1)] * 2 if n else {'a': 1.5, 'b': 'text'}\n"
                "json.loads(json.dumps(nest(6)))\n"
                "sorted(range(100), key=lambda x: str(x * 7919 % 100))\n",
                nullptr),
            0);
  ExpectNoDifference(8'000);
}

TEST_F(SteppingTest, EveryInstructionOfSorting) {
  std::vector<int> values(40);
  std::iota(values.rbegin(), values.rend(), 0);
  StartStepping(40'000);
  std::sort(values.begin(), values.end());
  std::reverse(values.begin(), values.end());
  qsort(values.data(), values.size(), sizeof(int), [](const void* a, const void* b) {
    return *static_cast<const int*>(a) - *static_cast<const int*>(b);
  });
  StopStepping();
  ExpectNoDifference(1'000);
}

TEST_F(SteppingTest, EveryInstructionOfLibc) {
  char text[256];
  std::string parsed;
  StartStepping(40'000);
  for (int i = 0; i < 4; ++i) {
    std::snprintf(text, sizeof(text), "%d %5.2f %s %p", i, i * 1.7, "some text", text);
    parsed += std::to_string(std::strtod(text + 2, nullptr));
    std::free(std::malloc(static_cast<size_t>(i) * 1000));
    getpid();
  }
  StopStepping();
  ExpectNoDifference(5'000);
}

TEST_F(SteppingTest, EveryInstructionOfThrowing) {
  StartStepping(60'000);
  try {
    ThrowQuietly(2);
  } catch (const Failure&) {
  }
  StopStepping();
  ExpectNoDifference(10'000);
}

}  // namespace
}  // namespace ollamatrace::capture

// Every allocation of the process is compared. glibc's own functions stand behind these.
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);

void* malloc(size_t size) {
  ollamatrace::capture::CompareHere();
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  ollamatrace::capture::CompareHere();
  return __libc_calloc(count, size);
}
void* realloc(void* block, size_t size) {
  ollamatrace::capture::CompareHere();
  return __libc_realloc(block, size);
}
}
