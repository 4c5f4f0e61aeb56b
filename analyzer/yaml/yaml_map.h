// YAML files of settings: maps whose keys are known, with errors that name file, line and the key
// that was meant. By yaml-cpp, whose exceptions end here.
#ifndef OLLAMATRACE_ANALYZER_YAML_YAML_MAP_H_
#define OLLAMATRACE_ANALYZER_YAML_YAML_MAP_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "yaml-cpp/yaml.h"

namespace ollamatrace {

// Where an error is.
struct YamlPlace {
  std::string name;  // of the file
  // InvalidArgument, "NAME:LINE: WHAT".
  absl::Status Error(const YAML::Node& node, absl::string_view what) const;
};

// Takes the text of a value; the error's message says what is wrong with it.
using YamlScalars = std::map<std::string, std::function<absl::Status(const std::string&)>>;
using YamlNested = std::function<absl::Status(const std::string& key, const YAML::Node& value)>;

// Calls `read` with the root of the document, unless that is empty.
absl::Status ReadYaml(const std::string& name, const std::string& text,
                      const std::function<absl::Status(const YamlPlace&, const YAML::Node&)>& read);

// `node` has to be a map whose keys are in `scalars` (with one value each) or in `nested_keys`,
// each at most once. `what` names it in errors.
absl::Status ReadYamlMap(const YamlPlace& place, const YAML::Node& node, const std::string& what,
                         const std::vector<std::string>& nested_keys, const YamlScalars& scalars,
                         const YamlNested& nested);
absl::Status ReadYamlScalars(const YamlPlace& place, const YAML::Node& node,
                             const std::string& what, const YamlScalars& scalars);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_YAML_YAML_MAP_H_
