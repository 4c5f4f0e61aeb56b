#include "analyzer/soak/prompts.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace ollamatrace {
namespace {

constexpr absl::string_view kWords[] = {
    "why",    "is",    "the",    "sky",  "blue", "and", "how",   "does", "a",      "river", "know",
    "where",  "to",    "go",     "tell", "me",   "of",  "long",  "cold", "winter", "night", "in",
    "summer", "light", "please", "what", "can",  "we",  "learn", "from", "stone",  "water"};

// splitmix64 (Steele, Lea, Flood 2014).
uint64_t Next(uint64_t& state) {
  uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::string Generate(uint64_t number, uint64_t words) {
  // The number first: a shared beginning would be answered from the cache.
  std::string prompt = absl::StrCat(number, ":");
  uint64_t state = number;
  for (uint64_t i = 0; i < words; ++i) {
    absl::StrAppend(&prompt, " ", kWords[Next(state) % std::size(kWords)]);
  }
  return prompt;
}

}  // namespace

absl::Status ParsePromptKind(absl::string_view text, PromptKind& kind) {
  if (text == "distinct") {
    kind = PromptKind::kDistinct;
  } else if (text == "repeated") {
    kind = PromptKind::kRepeated;
  } else if (text == "mixed") {
    kind = PromptKind::kMixed;
  } else {
    return absl::InvalidArgumentError("not known; give distinct, repeated or mixed");
  }
  return absl::OkStatus();
}

std::string Prompts::At(uint64_t number) const {
  switch (kind) {
    case PromptKind::kFile:
      return lines[number % lines.size()];
    case PromptKind::kRepeated:
      return Generate(0, words);
    case PromptKind::kMixed: {
      if (number % 4 == 3) return Generate(0, words);
      // From an eighth to eight times as long.
      uint64_t state = ~number;
      const uint64_t power = Next(state) % 7;
      return Generate(number, std::max<uint64_t>(1, (words << power) / 8));
    }
    case PromptKind::kDistinct:
      break;
  }
  return Generate(number, words);
}

}  // namespace ollamatrace
