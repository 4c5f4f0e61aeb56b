#include "tests/exactness/traced_process.h"

#include <spawn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace ollamatrace {

pid_t StartTraced(const std::vector<std::string>& argv, const std::string& library,
                  const std::string& folder, const std::string& mode,
                  const std::vector<std::string>& settings) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (strncmp(*variable, "OLLAMATRACE_", 12) != 0 && strncmp(*variable, "LD_PRELOAD=", 11) != 0) {
      variables.emplace_back(*variable);
    }
  }
  if (!library.empty()) {
    variables.push_back("LD_PRELOAD=" + library);
    variables.push_back("OLLAMATRACE_DIR=" + folder);
    variables.push_back("OLLAMATRACE_MODE=" + mode);
    variables.insert(variables.end(), settings.begin(), settings.end());
  }
  const auto pointers = [](const std::vector<std::string>& texts) {
    std::vector<char*> result;
    for (const std::string& text : texts) result.push_back(const_cast<char*>(text.c_str()));
    result.push_back(nullptr);
    return result;
  };
  pid_t pid = 0;
  const int error = posix_spawn(&pid, argv[0].c_str(), nullptr, nullptr, pointers(argv).data(),
                                pointers(variables).data());
  if (error != 0) {
    fprintf(stderr, "cannot start %s: %s\n", argv[0].c_str(), strerror(error));
    exit(1);
  }
  return pid;
}

std::string MakeScratchFolder() {
  const char* base = getenv("TMPDIR");
  std::string folder =
      std::string(base != nullptr ? base : "/tmp") + "/ollamatrace-exactness-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) {
    fprintf(stderr, "cannot make %s: %s\n", folder.c_str(), strerror(errno));
    exit(1);
  }
  return folder;
}

}  // namespace ollamatrace
