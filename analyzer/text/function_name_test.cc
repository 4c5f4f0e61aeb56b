#include "analyzer/text/function_name.h"

#include <string>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

TEST(QualifiedName, WithoutReturnTypeAndParameters) {
  EXPECT_EQ(QualifiedName("malloc"), "malloc");
  EXPECT_EQ(QualifiedName("leaky::LeakPrompt(char const*)"), "leaky::LeakPrompt");
  EXPECT_EQ(QualifiedName("void std::vector<int, std::allocator<int> >::push_back(int const&)"),
            "std::vector<int, std::allocator<int> >::push_back");
  EXPECT_EQ(QualifiedName("std::vector<int> mine::Make<int>(unsigned long)"), "mine::Make<int>");
  EXPECT_EQ(QualifiedName("(anonymous namespace)::Foo(int)"), "(anonymous namespace)::Foo");
  EXPECT_EQ(QualifiedName("ns::(anonymous namespace)::Foo"), "ns::(anonymous namespace)::Foo");
  EXPECT_EQ(QualifiedName("operator new(unsigned long)"), "operator new");
  EXPECT_EQ(QualifiedName("operator new[](unsigned long)"), "operator new[]");
  EXPECT_EQ(QualifiedName("std::function<void ()>::operator()() const"),
            "std::function<void ()>::operator()");
  EXPECT_EQ(QualifiedName("bool a::operator<(a::B const&, a::B const&)"), "a::operator<");
  EXPECT_EQ(QualifiedName("main.main"), "main.main");
  EXPECT_EQ(QualifiedName("net/http.(*conn).serve"), "net/http.(*conn).serve");
  EXPECT_EQ(QualifiedName("operators::Run(int)"), "operators::Run");
}

TEST(QualifiedName, OddNames) {
  for (const char* name :
       {"", " ", "<", ">", "(", ")", ">>>(", "a b", "foo const ", "operator", "((((", "x<y(z"}) {
    const absl::string_view got = QualifiedName(name);
    EXPECT_LE(got.size(), std::string(name).size()) << name;
  }
  EXPECT_EQ(QualifiedName("a "), "a ");
}

TEST(ShortFunction, LosesTheLeastImportantFirst) {
  const std::string name =
      "void app::(anonymous namespace)::Cache<std::string, std::vector<int> >::Insert(std::string "
      "const&, int)";
  EXPECT_EQ(ShortFunction(name, 200), name);
  EXPECT_EQ(ShortFunction(name, 80),
            "app::(anonymous namespace)::Cache<std::string, std::vector<int> >::Insert");
  EXPECT_EQ(ShortFunction(name, 60), "app::Cache<std::string, std::vector<int> >::Insert");
  EXPECT_EQ(ShortFunction(name, 40), "app::Cache<...>::Insert");
  EXPECT_EQ(ShortFunction(name, 20), "...::Insert");
  EXPECT_EQ(ShortFunction(name, 0), "...nsert");
}

TEST(ShortFunction, NeverLongerThanAsked) {
  const std::string name(500, 'x');
  for (size_t width = 8; width < 100; ++width) EXPECT_LE(ShortFunction(name, width).size(), width);
  const std::string nested = std::string(300, '<') + "::" + std::string(300, '>');
  for (size_t width = 8; width < 100; ++width)
    EXPECT_LE(ShortFunction(nested, width).size(), width);
}

TEST(IsPlumbing, AllocatorsAndRuntimes) {
  EXPECT_TRUE(IsPlumbing("operator new(unsigned long)", "/lib/libfoo.so"));
  EXPECT_TRUE(IsPlumbing("", "/lib/x86_64-linux-gnu/libc.so.6"));
  EXPECT_TRUE(IsPlumbing("", "/usr/lib/libstdc++.so.6.0.30"));
  EXPECT_TRUE(IsPlumbing("void std::vector<app::Thing>::reserve(unsigned long)", "/bin/app"));
  EXPECT_TRUE(IsPlumbing("runtime.mallocgc", "/bin/ollama"));
  EXPECT_TRUE(IsPlumbing("_PyObject_Malloc", "/usr/bin/python3"));
  EXPECT_TRUE(IsPlumbing("g_malloc0", "/lib/libglib-2.0.so.0"));
}

TEST(IsPlumbing, TheProgramsOwn) {
  EXPECT_FALSE(IsPlumbing("app::Run(std::string)", "/bin/app"));
  EXPECT_FALSE(IsPlumbing("std::vector<int> app::Make()", "/bin/app"));
  EXPECT_FALSE(IsPlumbing("", "/bin/app"));
  EXPECT_FALSE(IsPlumbing("main.main", "/bin/ollama"));
  EXPECT_FALSE(IsPlumbing("runtimes::Go", "/bin/app"));
  EXPECT_FALSE(IsPlumbing("mallocator::Use", "/bin/app"));
  EXPECT_FALSE(IsPlumbing("", ""));
}

}  // namespace
}  // namespace ollamatrace
