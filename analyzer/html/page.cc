#include "analyzer/html/page.h"

// The file as it is, whatever its size: a string literal of it would be slow to compile.
#ifdef OLLAMATRACE_PAGE
__asm__(
    ".pushsection .rodata\n"
    ".global ollamatrace_page\n"
    "ollamatrace_page: .incbin \"" OLLAMATRACE_PAGE
    "\"\n"
    ".global ollamatrace_page_end\n"
    "ollamatrace_page_end: .byte 0\n"
    ".popsection\n");
extern "C" const char ollamatrace_page[];
extern "C" const char ollamatrace_page_end[];
#endif

namespace ollamatrace {

absl::string_view Page() {
#ifdef OLLAMATRACE_PAGE
  return {ollamatrace_page, static_cast<size_t>(ollamatrace_page_end - ollamatrace_page)};
#else
  return {};
#endif
}

}  // namespace ollamatrace
