// ollamatrace-dump FILE: the records of a trace, one line each; what was wrong with it on stderr.
#include <cstdio>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "formats/record_text.h"
#include "formats/trace_reader.h"

int main(int argc, char** argv) {
  if (argc != 2 || argv[1][0] == '-') {
    fprintf(stderr,
            "usage: ollamatrace-dump FILE   (a .zst or a .journal; the process's other files are "
            "read with it)\n");
    return 2;
  }
  ollamatrace::RecordText text([](absl::string_view line) {
    fwrite(line.data(), 1, line.size(), stdout);
    putchar('\n');
  });
  const absl::StatusOr<ollamatrace::ReadSummary> summary = ollamatrace::ReadTrace(argv[1], text);
  if (!summary.ok()) {
    fprintf(stderr, "ollamatrace-dump: %s\n", std::string(summary.status().message()).c_str());
    return 3;
  }
  if (summary->files.size() > 1) {
    for (const std::string& file : summary->files) fprintf(stderr, "read %s\n", file.c_str());
  }
  for (const std::string& note : summary->notes) fprintf(stderr, "%s\n", note.c_str());
  fprintf(stderr,
          "chunks %llu, damaged %llu, dropped bytes %llu%s, unknown records %llu, journal %s%s\n",
          static_cast<unsigned long long>(summary->chunks),
          static_cast<unsigned long long>(summary->damaged_chunks),
          static_cast<unsigned long long>(summary->dropped_bytes),
          summary->truncated ? " (truncated)" : "",
          static_cast<unsigned long long>(summary->unknown_records),
          !summary->has_journal  ? "no"
          : summary->owner_alive ? "of a live process"
                                 : "left behind",
          summary->complete ? ", complete" : "");
  return fflush(stdout) == 0 ? 0 : 3;
}
