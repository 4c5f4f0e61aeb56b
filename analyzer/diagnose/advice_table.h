// The table of known places, see Site in advice.h. The first match counts: special ones stand
// before general ones.
#ifndef OLLAMATRACE_ANALYZER_DIAGNOSE_ADVICE_TABLE_H_
#define OLLAMATRACE_ANALYZER_DIAGNOSE_ADVICE_TABLE_H_

#include "absl/types/span.h"
#include "analyzer/diagnose/advice.h"

namespace ollamatrace {

extern const absl::Span<const Site> kSites;

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_DIAGNOSE_ADVICE_TABLE_H_
