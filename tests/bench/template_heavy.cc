// What P5, P8 and P10 compile: templates of the standard library, instantiated COUNT times. It is
// no part of any program.
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace {

template <int N>
struct Tag {
  int value = N;
};

template <int N>
using Row = std::tuple<Tag<N>, std::string, std::vector<Tag<N>>, std::map<int, Tag<N>>>;

template <int N>
using Any = std::variant<Tag<N>, Tag<N + 1>, std::string, std::unique_ptr<Row<N>>>;

template <int N>
int Use(const std::string& text) {
  std::unordered_map<std::string, Any<N>> table;
  std::map<std::string, std::function<int(const Row<N>&)>> calls;
  table[text] = std::make_unique<Row<N>>();
  table[text + "a"] = Tag<N + 1>();
  calls[text] = [](const Row<N>& row) {
    return std::get<0>(row).value + static_cast<int>(std::get<2>(row).size());
  };
  int sum = 0;
  for (auto& [key, any] : table) {
    sum += std::visit(
        [&](auto& held) {
          if constexpr (requires { held.value; }) return held.value;
          if constexpr (requires { held.size(); }) return static_cast<int>(held.size());
          if constexpr (requires { *held; }) return calls[text](*held);
          return 0;
        },
        any);
  }
  return sum;
}

template <int... kNumbers>
int UseAll(const std::string& text, std::integer_sequence<int, kNumbers...>) {
  return (Use<kNumbers>(text) + ...);
}

}  // namespace

int Sum(const std::string& text) { return UseAll(text, std::make_integer_sequence<int, COUNT>()); }
