// Starts a program under the library.
#ifndef OLLAMATRACE_TESTS_EXACTNESS_TRACED_PROCESS_H_
#define OLLAMATRACE_TESTS_EXACTNESS_TRACED_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

namespace ollamatrace {

// `library` "" runs it without the library. `folder` is the session's; `settings` are further
// variables of the library's. Ends the test program when the process cannot be started.
pid_t StartTraced(const std::vector<std::string>& argv, const std::string& library,
                  const std::string& folder, const std::string& mode,
                  const std::vector<std::string>& settings = {});

// A new folder for the test's files, under $TMPDIR.
std::string MakeScratchFolder();

}  // namespace ollamatrace

#endif  // OLLAMATRACE_TESTS_EXACTNESS_TRACED_PROCESS_H_
