#include "analyzer/symbolize/demangle.h"

#include <string>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

TEST(DemangleTest, Cxx) {
  EXPECT_EQ(Demangle("_ZN5ggml_3runEPKci"), "ggml_::run(char const*, int)");
  EXPECT_EQ(Demangle("_ZNSt6vectorIiSaIiEE9push_backERKi"),
            "std::vector<int, std::allocator<int> >::push_back(int const&)");
  EXPECT_EQ(Demangle("_Znwm"), "operator new(unsigned long)");
}

TEST(DemangleTest, SymbolVersionIsNotPartOfTheName) {
  EXPECT_EQ(Demangle("_Znwm@GLIBCXX_3.4"), "operator new(unsigned long)");
}

TEST(DemangleTest, ClonesKeepTheirSuffix) {
  EXPECT_EQ(Demangle("_ZN5ggml_3runEi.constprop.0"), "ggml_::run(int) [clone .constprop.0]");
}

TEST(DemangleTest, RustLosesItsHash) {
  EXPECT_EQ(Demangle("_ZN4core3fmt5write17h0123456789abcdefE"), "core::fmt::write");
  EXPECT_EQ(Demangle("_ZN58_$LT$alloc..string..String$u20$as$u20$core..fmt..Debug$GT$3fmt17h"
                     "0123456789abcdefE"),
            "<alloc::string::String as core::fmt::Debug>::fmt");
}

TEST(DemangleTest, OtherNamesStayAsTheyCame) {
  for (const char* name : {"", "_", "_Z", "malloc", "main.(*pool).keep", "_RNvC1a4main", "_Znot",
                           "_ZN", "_ZN99999999999999999999aE", "_ZZZZZZZZ"}) {
    EXPECT_EQ(Demangle(name), name);
  }
  const std::string with_nul("_Znwm\0x", 7);
  EXPECT_EQ(Demangle(with_nul).substr(0, 12), "operator new");
}

// pair<pair<pair<...>, ...>, ...>: each level repeats the one before twice.
std::string Doubling(int levels) {
  static constexpr char kDigits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::string name = "_Z1fSt4pairIiiE";
  for (int level = 0; level < levels; ++level) {
    std::string reference = "S";
    if (level >= 36) reference += kDigits[level / 36 - 1];
    reference += kDigits[level % 36];
    reference += '_';
    name += "S_I" + reference + reference + "E";
  }
  return name;
}

TEST(DemangleTest, NamesThatWouldExpandWithoutBoundStayAsTheyCame) {
  EXPECT_NE(Demangle(Doubling(3)), Doubling(3));
  EXPECT_EQ(Demangle(Doubling(12)), Doubling(12));  // Too long to read.
  EXPECT_EQ(Demangle(Doubling(40)), Doubling(40));  // A million million characters.
  EXPECT_EQ(Demangle(Doubling(80)), Doubling(80));
  std::string deep = "_Z1f";
  deep.append(3000, 'P');
  deep += 'i';
  EXPECT_EQ(Demangle(deep), deep);
  EXPECT_EQ(Demangle("_ZN" + std::string(5000, 'a')), "_ZN" + std::string(5000, 'a'));
}

}  // namespace
}  // namespace ollamatrace
