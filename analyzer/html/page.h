// The page as it was built: HTML with its styles and scripts, and a place for the data.
#ifndef OLLAMATRACE_ANALYZER_HTML_PAGE_H_
#define OLLAMATRACE_ANALYZER_HTML_PAGE_H_

#include "absl/strings/string_view.h"

namespace ollamatrace {

// Empty when the program was built without npm.
absl::string_view Page();

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_HTML_PAGE_H_
