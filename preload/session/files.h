#ifndef OLLAMATRACE_PRELOAD_SESSION_FILES_H_
#define OLLAMATRACE_PRELOAD_SESSION_FILES_H_

// The session's folder and this process's files in it: <exe>.<pid>.<start>.zst, .journal and .log.

#include <cstddef>
#include <cstdint>

#include "preload/journal/journal.h"
#include "preload/session/settings.h"

namespace ollamatrace {

// Creates the trace and the journal in the first place that allows it: the folder of the settings
// (by default ./ollamatrace), then $TMPDIR/ollamatrace. Missing folders are made. The reason why a
// place was not taken goes to `settings->complaints`. False: no place at all.
bool CreateSessionFiles(Settings* settings, const char* exe, uint64_t start_ns, Journal* journal,
                        OwnFile* trace);

// Where the files are, absolute; "" before.
const char* SessionFolder();

// Appends a line to the .log file. Without effect when there is no folder or it cannot be written.
void WriteLog(const char* text);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_SESSION_FILES_H_
