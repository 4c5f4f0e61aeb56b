#include "analyzer/yaml/yaml_map.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "analyzer/text/nearest_word.h"

namespace ollamatrace {

absl::Status YamlPlace::Error(const YAML::Node& node, absl::string_view what) const {
  const YAML::Mark mark = node.Mark();
  return absl::InvalidArgumentError(
      absl::StrCat(name, mark.line >= 0 ? absl::StrCat(":", mark.line + 1) : "", ": ", what));
}

absl::Status ReadYaml(
    const std::string& name, const std::string& text,
    const std::function<absl::Status(const YamlPlace&, const YAML::Node&)>& read) {
  try {
    const YAML::Node root = YAML::Load(text);
    if (root.IsNull()) return absl::OkStatus();
    return read({name}, root);
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, error.mark.line >= 0 ? absl::StrCat(":", error.mark.line + 1) : "",
                     ": not YAML: ", error.msg));
  }
}

absl::Status ReadYamlMap(const YamlPlace& place, const YAML::Node& node, const std::string& what,
                         const std::vector<std::string>& nested_keys, const YamlScalars& scalars,
                         const YamlNested& nested) {
  if (!node.IsMap()) {
    return place.Error(node, absl::StrCat(what, " has to be a map, KEY: VALUE"));
  }
  std::vector<std::string> seen;
  for (const auto& entry : node) {
    const YAML::Node &key = entry.first, &value = entry.second;
    if (!key.IsScalar()) return place.Error(key, "a key has to be a word");
    const std::string& name = key.Scalar();
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) {
      return place.Error(key, absl::StrCat("\"", name, "\" is there twice"));
    }
    seen.push_back(name);
    if (std::find(nested_keys.begin(), nested_keys.end(), name) != nested_keys.end()) {
      if (absl::Status status = nested(name, value); !status.ok()) return status;
      continue;
    }
    const auto scalar = scalars.find(name);
    if (scalar == scalars.end()) {
      std::vector<std::string> valid = nested_keys;
      for (const auto& [one, set] : scalars) valid.push_back(one);
      return place.Error(key, absl::StrCat("unknown key \"", name, "\"; did you mean \"",
                                           NearestWord(name, valid), "\"?"));
    }
    if (!value.IsScalar()) return place.Error(value, absl::StrCat(name, " has to be one value"));
    if (const absl::Status status = scalar->second(value.Scalar()); !status.ok()) {
      return place.Error(value, absl::StrCat(name, ": ", value.Scalar(), ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadYamlScalars(const YamlPlace& place, const YAML::Node& node,
                             const std::string& what, const YamlScalars& scalars) {
  return ReadYamlMap(place, node, what, {}, scalars, nullptr);
}

}  // namespace ollamatrace
