// What Unwind finds on stacks of all kinds, held against how the test made them.

#include "preload/capture/unwinder.h"

#include <dlfcn.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <link.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "preload/capture/unwinder_modules.h"
#include "preload/capture/unwinder_test_support.h"

namespace ollamatrace::capture {
namespace {

class UnwinderTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(InitUnwinder("own"));
    UnregisterAllModules();
    RegisterLoadedModules();
  }
  ThreadUnwindCache* cache() const { return cache_.get(); }

 private:
  OwnedUnwindCache cache_;
};

void Use(void* memory) { __asm__ volatile("" : : "r"(memory) : "memory"); }

// --- Frames of all shapes

using Leaf = std::function<void()>;

__attribute__((noinline)) void Recurse(int n, const Leaf& leaf) {
  if (n == 0) {
    leaf();
  } else {
    Recurse(n - 1, leaf);
  }
  __asm__ volatile("");
}

__attribute__((noinline)) void WithAlloca(int n, const Leaf& leaf) {
  Use(__builtin_alloca(static_cast<size_t>(n) * 40 + 1));
  if (n == 0) {
    leaf();
  } else {
    WithAlloca(n - 1, leaf);
  }
  __asm__ volatile("");
}

__attribute__((noinline)) void Realigning(int n, const Leaf& leaf) {
  alignas(128) char memory[256];
  Use(memory);
  if (n == 0) {
    leaf();
  } else {
    Realigning(n - 1, leaf);
  }
  Use(memory);
}

__attribute__((noinline)) void BigFrame(int n, const Leaf& leaf) {
  char memory[40000];
  Use(memory);
  if (n == 0) {
    leaf();
  } else {
    BigFrame(n - 1, leaf);
  }
  Use(memory);
}

// The frames between a leaf and the function that was given it: std::function's own.
int FramesOfLeaf(ThreadUnwindCache* cache) {
  const Stack outer = StackHere(cache);
  int frames = -1;
  const Leaf leaf = [&] { frames = FramesAbove(StackHere(cache), outer); };
  leaf();
  return frames;
}

TEST_F(UnwinderTest, FindsEachFrameOfARecursion) {
  const int leaf_frames = FramesOfLeaf(cache());
  ASSERT_GT(leaf_frames, 0);
  const Stack outer = StackHere(cache());
  for (const auto& function : {Recurse, WithAlloca, Realigning, BigFrame}) {
    for (int n : {0, 1, 5, 40, 3, 41}) {
      int frames = -1;
      function(n, [&] { frames = FramesAbove(StackHere(cache()), outer); });
      EXPECT_EQ(frames, n + 1 + leaf_frames) << n;
    }
  }
}

[[noreturn]] __attribute__((noinline)) void LeaveBy(sigjmp_buf* jump, const Leaf& leaf) {
  leaf();
  siglongjmp(*jump, 1);
}

// Its last instruction is the call: the return address is behind its end.
__attribute__((noinline)) void EndsInACall(sigjmp_buf* jump, const Leaf& leaf) {
  LeaveBy(jump, leaf);
}

TEST_F(UnwinderTest, FindsCallersThatEndInACall) {
  const int leaf_frames = FramesOfLeaf(cache());
  const Stack outer = StackHere(cache());
  int frames = -1;
  const Leaf leaf = [&] { frames = FramesAbove(StackHere(cache()), outer); };
  sigjmp_buf jump;
  if (sigsetjmp(jump, 1) == 0) EndsInACall(&jump, leaf);
  EXPECT_EQ(frames, 2 + leaf_frames);
}

#if defined(__x86_64__)
// A frame that is described by rbx alone, as in the dynamic linker's lazy binding.
__asm__(R"(
  .text
  .type CallOnFrameByRbx, @function
CallOnFrameByRbx:
  .cfi_startproc
  push %rbx
  .cfi_def_cfa_offset 16
  .cfi_offset rbx, -16
  mov %rsp, %rbx
  .cfi_def_cfa_register rbx
  sub $200, %rsp
  and $-64, %rsp
  xchg %rdi, %rsi
  call *%rsi
  mov %rbx, %rsp
  .cfi_def_cfa_register rsp
  pop %rbx
  .cfi_def_cfa_offset 8
  ret
  .cfi_endproc
  .size CallOnFrameByRbx, .-CallOnFrameByRbx
)");
extern "C" void CallOnFrameByRbx(void (*function)(void*), void* argument);

TEST_F(UnwinderTest, FollowsOtherRegisters) {
  struct Arguments {
    ThreadUnwindCache* cache;
    Stack outer;
    int frames;
  } arguments = {cache(), StackHere(cache()), -1};
  const auto function = [](void* argument) {
    auto* a = static_cast<Arguments*>(argument);
    CallOnFrameByRbx(
        [](void* inner) {
          auto* b = static_cast<Arguments*>(inner);
          b->frames = FramesAbove(StackHere(b->cache), b->outer);
          __asm__ volatile("");
        },
        a);
    __asm__ volatile("");
  };
  for (int i = 0; i < 3; ++i) {
    arguments.frames = -1;
    CallOnFrameByRbx(function, &arguments);
    EXPECT_EQ(arguments.frames, 4);
  }
}
#endif

TEST_F(UnwinderTest, CutsADeepStackAtItsOuterEnd) {
  Stack all;
  Stack cut;
  Recurse(200, [&] {
    for (int i = 0; i < 2; ++i) {
      all = StackHere(cache());
      cut = StackHere(cache(), 50);
      if (i == 0) continue;
      EXPECT_EQ(StackHere(cache(), 1).size(), 1u);
      EXPECT_EQ(StackHere(cache(), 0).size(), 0u);
    }
  });
  ASSERT_GT(all.size(), 200u);
  ASSERT_EQ(cut.size(), 50u);
  EXPECT_TRUE(std::equal(cut.begin() + 1, cut.end(), all.begin() + 1));
}

TEST_F(UnwinderTest, RemembersOnlyTheInnerPartOfAVeryDeepStack) {
  const Stack outer = StackHere(cache());
  const int leaf_frames = FramesOfLeaf(cache());
  for (int n : {300, 450, 299, 450, 10, 451}) {
    int frames = -1;
    Recurse(n, [&] {
      StackHere(cache());
      frames = FramesAbove(StackHere(cache()), outer);
    });
    EXPECT_EQ(frames, n + 1 + leaf_frames);
  }
}

TEST_F(UnwinderTest, LeavesErrnoAlone) {
  UnregisterModule(1);  // so that all rules are worked out again
  errno = 77;
  StackHere(cache());
  EXPECT_EQ(errno, 77);
}

// --- Signals

ThreadUnwindCache* g_handler_cache;
Stack g_handler_stack;
sigjmp_buf g_handler_jump;
uintptr_t g_interrupted_pc;

void OnSignal(int, siginfo_t*, void* context) {
  g_handler_stack = StackHere(g_handler_cache);
#if defined(__x86_64__)
  g_interrupted_pc =
      static_cast<uintptr_t>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
#else
  g_interrupted_pc = static_cast<ucontext_t*>(context)->uc_mcontext.pc;
#endif
}

void OnFault(int signal, siginfo_t* info, void* context) {
  OnSignal(signal, info, context);
  siglongjmp(g_handler_jump, 1);
}

class SignalTest : public UnwinderTest, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    UnwinderTest::SetUp();
    g_handler_cache = cache();
    const stack_t alternate = {memory_.data(), 0, memory_.size()};
    ASSERT_EQ(sigaltstack(&alternate, nullptr), 0);
  }
  void TearDown() override {
    signal(SIGUSR1, SIG_DFL);
    signal(SIGSEGV, SIG_DFL);
    const stack_t none = {nullptr, SS_DISABLE, 0};
    sigaltstack(&none, nullptr);
  }
  void Handle(int signal, void (*handler)(int, siginfo_t*, void*)) {
    struct sigaction action = {};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | (GetParam() ? SA_ONSTACK : 0);
    ASSERT_EQ(sigaction(signal, &action, nullptr), 0);
  }

 private:
  std::vector<char> memory_ = std::vector<char>(64 << 10);
};

TEST_P(SignalTest, StepsThroughAHandler) {
  Handle(SIGUSR1, OnSignal);
  const Stack outer = StackHere(cache());
  for (int i = 0; i < 4; ++i) {
    g_handler_stack.clear();
    Recurse(3, [&] { raise(SIGUSR1); });
    EXPECT_GT(FramesAbove(g_handler_stack, outer), 5);
    const Stack again = StackHere(cache());
    EXPECT_EQ(FramesAbove(again, outer), 0);
  }
}

__attribute__((noinline)) int ReadFrom(const volatile int* where) { return *where + 1; }

TEST_P(SignalTest, GivesTheExactPlaceOfAFault) {
  Handle(SIGSEGV, OnFault);
  const Stack outer = StackHere(cache());
  for (int i = 0; i < 3; ++i) {
    g_handler_stack.clear();
    if (sigsetjmp(g_handler_jump, 1) == 0) ReadFrom(nullptr);
    EXPECT_EQ(FramesAbove(g_handler_stack, outer),
              4);  // two handlers, the kernel's frame, ReadFrom
    ASSERT_GT(g_handler_stack.size(), 3u);
    EXPECT_EQ(g_handler_stack[3], g_interrupted_pc | kExactPc);
  }
}

INSTANTIATE_TEST_SUITE_P(Stacks, SignalTest, testing::Bool(), [](const auto& test) {
  return test.param ? "AlternateStack" : "SameStack";
});

#if defined(__x86_64__)
// A handler that walks with the very cache of the walk that it interrupted, at every instruction of
// it.
Stack g_outer;
long g_nested_walks;
long g_nested_failures;
volatile bool g_stepping;

void OnTrap(int, siginfo_t*, void* context) {
  if (!g_stepping) {
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~greg_t{0x100};
    return;
  }
  ++g_nested_walks;
  if (FramesAbove(StackHere(g_handler_cache), g_outer) < 2) ++g_nested_failures;
}

__attribute__((noinline)) void StartStepping() {
  g_stepping = true;
  __asm__ volatile("pushfq\n\torl $0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
}

TEST_P(SignalTest, MayInterruptAWalkAnywhere) {
  Handle(SIGTRAP, OnTrap);
  g_nested_walks = 0;
  g_nested_failures = 0;
  uintptr_t pcs[kMaxTestDepth];
  g_outer = StackHere(cache());
  const Stack& outer = g_outer;
  for (int i = 0; i < 4; ++i) {
    if (i == 2) UnregisterModule(1);  // with all rules to be worked out again, too
    const CallerFrame start = OLLAMATRACE_CALLER_FRAME();
    StartStepping();
    const UnwindResult result = Unwind(cache(), start, pcs, kMaxTestDepth);
    g_stepping = false;
    EXPECT_EQ(FramesAbove(Stack(pcs, pcs + result.depth), Stack(outer.begin() + 1, outer.end())),
              0);
  }
  EXPECT_GT(g_nested_walks, 1000);
  EXPECT_EQ(g_nested_failures, 0);
  signal(SIGTRAP, SIG_DFL);
}
#endif

// --- Stacks of other kinds

TEST_F(UnwinderTest, WalksThreadsWithSmallStacks) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, 32 << 10), 0);
  for (int i = 0; i < 20; ++i) {
    struct Arguments {
      ThreadUnwindCache* cache;
      size_t depth;
      size_t deeper;
    } arguments = {cache(), 0, 0};  // one cache, handed from thread to thread
    pthread_t thread;
    ASSERT_EQ(pthread_create(
                  &thread, &attributes,
                  [](void* argument) -> void* {
                    auto* a = static_cast<Arguments*>(argument);
                    a->depth = StackHere(a->cache).size();
                    Recurse(10, [a] { a->deeper = StackHere(a->cache).size(); });
                    return nullptr;
                  },
                  &arguments),
              0);
    pthread_join(thread, nullptr);
    EXPECT_GE(arguments.depth, 2u);
    EXPECT_GT(arguments.deeper, arguments.depth + 10);
  }
  pthread_attr_destroy(&attributes);
}

class Coroutine {
 public:
  Coroutine(size_t bytes, const Leaf& body) : bytes_(bytes), body_(body) {
    memory_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    getcontext(&context_);
    context_.uc_stack.ss_sp = memory_;
    context_.uc_stack.ss_size = bytes;
    context_.uc_link = &back_;
    const auto self = reinterpret_cast<uintptr_t>(this);
    makecontext(&context_, reinterpret_cast<void (*)()>(Run), 2, static_cast<unsigned>(self >> 32),
                static_cast<unsigned>(self));
  }
  ~Coroutine() { munmap(memory_, bytes_); }
  void Resume() { swapcontext(&back_, &context_); }
  void Yield() { swapcontext(&context_, &back_); }
  void* memory() const { return memory_; }

 private:
  static void Run(unsigned high, unsigned low) {
    reinterpret_cast<Coroutine*>(uintptr_t{high} << 32 | low)->body_();
  }

  const size_t bytes_;
  const Leaf body_;
  void* memory_;
  ucontext_t context_;
  ucontext_t back_;
};

TEST_F(UnwinderTest, WalksCoroutines) {
  const Stack outer = StackHere(cache());
  Coroutine* current = nullptr;
  std::vector<Stack> stacks;
  const Leaf body = [&] {
    for (int i = 0; i < 3; ++i) {
      Recurse(4, [&] { stacks.push_back(StackHere(cache())); });
      current->Yield();
    }
  };
  Coroutine first(64 << 10, body);
  Coroutine second(64 << 10, body);
  for (int i = 0; i < 3; ++i) {
    for (Coroutine* coroutine : {&first, &second}) {
      current = coroutine;
      coroutine->Resume();
      EXPECT_EQ(FramesAbove(StackHere(cache()), outer), 0);
    }
  }
  ASSERT_EQ(stacks.size(), 6u);
  for (const Stack& stack : stacks) {
    EXPECT_EQ(stack, stacks[0]);
    EXPECT_GE(stack.size(), 7u);
  }
}

TEST_F(UnwinderTest, ForgetsAStackThatIsGone) {
  // Stacks one after the other at one address, each smaller than the last.
  for (size_t bytes = 256 << 10; bytes >= 32 << 10; bytes -= 32 << 10) {
    Stack stack;
    Coroutine coroutine(bytes, [&] { Recurse(4, [&] { stack = StackHere(cache()); }); });
    coroutine.Resume();
    EXPECT_GE(stack.size(), 7u);
  }
}

// How much stack a walk takes, all rules unknown: signal stacks and those of Go's g0 are small.
TEST_F(UnwinderTest, TakesLittleStack) {
  constexpr unsigned char kPaint = 0xa5;
  for (const bool cold : {true, false}) {
    uintptr_t hook_frame = 0;
    uintptr_t pcs[kMaxTestDepth];
    int depth = 0;
    const Leaf leaf = [&] {
      const CallerFrame start = OLLAMATRACE_CALLER_FRAME();
      hook_frame = reinterpret_cast<uintptr_t>(__builtin_alloca(16));
      depth = Unwind(cache(), start, pcs, kMaxTestDepth).depth;
    };
    Coroutine coroutine(64 << 10, [&] { Recurse(3, leaf); });
    std::memset(coroutine.memory(), kPaint, (64 << 10) - 512);
    if (cold) UnregisterModule(1);
    coroutine.Resume();
    ASSERT_GT(depth, 1);
    const auto* lowest = static_cast<const unsigned char*>(coroutine.memory());
    while (*lowest == kPaint) ++lowest;
    const uintptr_t taken = hook_frame - reinterpret_cast<uintptr_t>(lowest);
    RecordProperty(cold ? "cold" : "warm", std::to_string(taken));
    std::printf("%s: %zu bytes of stack\n", cold ? "cold" : "warm", size_t{taken});
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__)
    EXPECT_LT(taken, cold ? 1088u : 528u);
#endif
  }
}

#if defined(__x86_64__)
// Code in no module. With a frame pointer the walk goes through it, without it ends there at worst.
class MadeCode {
 public:
  explicit MadeCode(const std::vector<unsigned char>& code)
      : memory_(mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
                     -1, 0)) {
    std::memcpy(memory_, code.data(), code.size());
  }
  ~MadeCode() { munmap(memory_, 4096); }
  void Call(void (*function)(void*), void* argument) const {
    reinterpret_cast<void (*)(void*, void (*)(void*))>(memory_)(argument, function);
  }

 private:
  void* const memory_;
};

struct MadeCodeArguments {
  ThreadUnwindCache* cache;
  Stack outer;
  Stack stack;
};

void TakeStack(void* argument) {
  auto* a = static_cast<MadeCodeArguments*>(argument);
  a->stack = StackHere(a->cache);
}

TEST_F(UnwinderTest, FollowsFramePointersThroughCodeWithoutModule) {
  const MadeCode code({0x55,              // push %rbp
                       0x48, 0x89, 0xe5,  // mov %rsp, %rbp
                       0xff, 0xd6,        // call *%rsi
                       0x5d, 0xc3});      // pop %rbp; ret
  MadeCodeArguments arguments = {cache(), StackHere(cache()), {}};
  for (int i = 0; i < 3; ++i) {
    code.Call(TakeStack, &arguments);
    EXPECT_EQ(FramesAbove(arguments.stack, arguments.outer), 2);
  }
}

TEST_F(UnwinderTest, SurvivesCodeWithoutModuleOrFramePointer) {
  uint64_t on_stack[2] = {1, 2};
  for (const uint64_t bp : {uint64_t{0}, uint64_t{8}, uint64_t{0x7fffffffffff8}, ~uint64_t{0},
                            reinterpret_cast<uint64_t>(on_stack), uint64_t{0x8000000000000000}}) {
    std::vector<unsigned char> bytes = {0x55,         // push %rbp
                                        0x48, 0xbd};  // mov $bp, %rbp
    for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<unsigned char>(bp >> (8 * i)));
    for (const int byte : {0xff, 0xd6, 0x5d, 0xc3})
      bytes.push_back(static_cast<unsigned char>(byte));
    const MadeCode code(bytes);
    MadeCodeArguments arguments = {cache(), StackHere(cache()), {}};
    code.Call(TakeStack, &arguments);
    EXPECT_EQ(arguments.stack.size(), 2u);
  }
}
#endif

// --- Modules

class Plugin {
 public:
  explicit Plugin(const char* path) : library_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (library_ != nullptr) {
      call_ = reinterpret_cast<int (*)(int (*)(void*), void*)>(dlsym(library_, "PluginCall"));
    }
  }
  ~Plugin() { Close(); }
  void Close() {
    if (library_ != nullptr) dlclose(library_);
    library_ = nullptr;
  }
  bool ok() const { return call_ != nullptr; }
  uintptr_t address() const { return reinterpret_cast<uintptr_t>(call_); }

  __attribute__((noinline)) Stack Walk(ThreadUnwindCache* cache) const {
    struct Arguments {
      ThreadUnwindCache* cache;
      Stack stack;
    } arguments = {cache, {}};
    call_(
        [](void* argument) {
          auto* a = static_cast<Arguments*>(argument);
          a->stack = StackHere(a->cache);
          return 1;
        },
        &arguments);
    return arguments.stack;
  }

 private:
  void* library_;
  int (*call_)(int (*)(void*), void*) = nullptr;
};

void RegisterModuleOf(uintptr_t address, bool hidden) {
  struct Wanted {
    uintptr_t address;
    bool hidden;
  } wanted = {address, hidden};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* argument) {
        const auto* w = static_cast<const Wanted*>(argument);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
          if (info->dlpi_phdr[i].p_type == PT_LOAD && w->address >= begin &&
              w->address < begin + info->dlpi_phdr[i].p_memsz) {
            RegisterModule({info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum, w->hidden});
          }
        }
        return 0;
      },
      &wanted);
}

TEST_F(UnwinderTest, KnowsAModuleFromTheOneThatWasThereBefore) {
  int same_address = 0;
  uintptr_t last = 0;
  const Stack outer = StackHere(cache());
  for (int i = 0; i < 10; ++i) {
    Plugin plugin(i % 2 == 0 ? UNWINDER_TEST_PLUGIN_A : UNWINDER_TEST_PLUGIN_B);
    ASSERT_TRUE(plugin.ok()) << dlerror();
    if (plugin.address() == last) ++same_address;
    last = plugin.address();
    // Registered or not: the dynamic linker is asked then.
    if (i % 4 < 2) RegisterModuleOf(plugin.address(), false);
    for (int walk = 0; walk < 2; ++walk) {
      EXPECT_EQ(FramesAbove(plugin.Walk(cache()), outer), 3) << i;
    }
    plugin.Close();
    UnregisterModule(last);
  }
  EXPECT_GT(same_address, 0) << "the two plugins never had the same address: nothing was tested";
}

TEST_F(UnwinderTest, LeavesOutFramesOfHiddenModules) {
  const Plugin plugin(UNWINDER_TEST_PLUGIN_A);
  ASSERT_TRUE(plugin.ok()) << dlerror();
  const Stack outer = StackHere(cache());
  RegisterModuleOf(plugin.address(), true);
  for (int walk = 0; walk < 3; ++walk) {
    const Stack stack = plugin.Walk(cache());
    EXPECT_EQ(FramesAbove(stack, outer), 2);
    for (const uintptr_t pc : stack) EXPECT_GT(pc - plugin.address(), 4096u);
  }
  RegisterModuleOf(plugin.address(), false);
  EXPECT_EQ(FramesAbove(plugin.Walk(cache()), outer), 3);
  UnregisterModule(plugin.address());
}

TEST_F(UnwinderTest, WalksWhileModulesComeAndGo) {
  std::atomic<bool> stop = false;
  std::atomic<long> wrong = 0;
  std::atomic<long> walks = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      const OwnedUnwindCache own;
      const Stack outer = StackHere(own.get());
      do {
        for (int n = 0; n < 20; ++n) {
          Recurse(n, [&] {
            if (FramesAbove(StackHere(own.get()), outer) < n + 1) ++wrong;
            ++walks;
          });
        }
      } while (!stop);
    });
  }
  for (int i = 0; i < 300; ++i) {
    Plugin plugin(i % 2 == 0 ? UNWINDER_TEST_PLUGIN_A : UNWINDER_TEST_PLUGIN_B);
    RegisterModuleOf(plugin.address(), false);
    plugin.Close();
    UnregisterModule(plugin.address());
    if (i % 50 == 0) {
      UnregisterAllModules();
      RegisterLoadedModules();
    }
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(walks, 0);
  EXPECT_EQ(wrong, 0);
}

// --- Backends

__attribute__((noinline, optimize("no-omit-frame-pointer", "no-optimize-sibling-calls"))) int
FramePointers(int n, ThreadUnwindCache* cache, Stack* stack) {
  if (n == 0) {
    *stack = StackHere(cache);
    return 0;
  }
  return FramePointers(n - 1, cache, stack) + 1;
}

TEST_F(UnwinderTest, FollowsFramePointersAlone) {
  ASSERT_TRUE(InitUnwinder("fp"));
  EXPECT_EQ(CurrentUnwindBackend(), UnwindBackend::kFramePointer);
  Stack stack;
  for (int i = 0; i < 2; ++i) {
    FramePointers(20, cache(), &stack);
    ASSERT_GE(stack.size(), 20u);
    for (int frame = 2; frame < 20; ++frame) EXPECT_EQ(stack[frame], stack[1]);
  }
}

TEST_F(UnwinderTest, AsksLibunwind) {
  if (!InitUnwinder("libunwind")) GTEST_SKIP() << "no libunwind.so.8";
  EXPECT_EQ(CurrentUnwindBackend(), UnwindBackend::kLibunwind);
  const Stack outer = StackHere(cache());
  const int leaf_frames = FramesOfLeaf(cache());
  int frames = -1;
  Recurse(7, [&] { frames = FramesAbove(StackHere(cache()), outer); });
  EXPECT_EQ(frames, 8 + leaf_frames);
  EXPECT_EQ(dlsym(RTLD_DEFAULT, "unw_backtrace"), nullptr) << "its symbols are in the global scope";
}

TEST_F(UnwinderTest, RefusesABackendItDoesNotKnow) {
  EXPECT_FALSE(InitUnwinder("dwarf"));
  EXPECT_EQ(CurrentUnwindBackend(), UnwindBackend::kOwn);
  EXPECT_TRUE(InitUnwinder(nullptr));
  EXPECT_TRUE(InitUnwinder(""));
}

TEST_F(UnwinderTest, NeedsNoRegistration) {
  UnregisterAllModules();
  const Stack stack = StackHere(cache());  // the dynamic linker knows the modules
  EXPECT_GE(stack.size(), 3u);
}

}  // namespace
}  // namespace ollamatrace::capture
