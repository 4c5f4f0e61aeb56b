// ollama-leakview: says which line of code is keeping the memory.
#include <string>
#include <vector>

#include "analyzer/cli/commands.h"

int main(int argc, char** argv) {
  return ollamatrace::RunCommandLine(
      std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
}
