// Names for addresses: from a module as the trace recorded it, and an address within it, to
// functions, files and lines.
//
// Offline only. Sources, best first:
//   1. DWARF 4 and 5 (libdw): inlined calls expanded, lines; from the module itself or from its
//   separate debug file
//      (build-id folder, .gnu_debuglink; a dwz alternate file is found by libdw).
//   2. Go's .gopclntab (go1.2, 1.16, 1.18, 1.20 and later layouts): present in stripped Go binaries
//   too.
//   3. .symtab, of the module or of its debug file; 4. .dynsym; 5. the symbols in .gnu_debugdata
//   (xz).
// Names that were found before, in a cache or beside the trace, stand for the files where these are
// not there, and save looking into them where they would tell nothing else.
//
// A file is used only when it is the one that ran: its build-id has to equal the recorded one.
// ModuleStatus says which files were used, or why none was.
//
// Usage:
//   Symbolizer symbolizer({.sysroot = "/mnt/container"});
//   ModuleIndex m = symbolizer.AddModule({.path = "/usr/bin/ollama", .build_id =
//   bytes_of_the_note}); for (const Frame& f : symbolizer.Lookup(m, pc - load_bias,
//   AddressKind::kReturn)) ...
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_SYMBOLIZER_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_SYMBOLIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "analyzer/symbolize/debuginfod.h"

namespace ollamatrace {

// A module as the trace knows it. The load bias is not part of it: the same file loaded twice, or
// by two processes, is one module here.
struct ModuleSpec {
  std::string path;  // As mapped in the target; a trailing " (deleted)" is understood. "[vdso]" has
                     // no file.
  std::string build_id;  // The raw bytes of the NT_GNU_BUILD_ID note (not hexadecimal); empty when
                         // the module has none.
};

enum class ModuleIndex : uint32_t {};

// What an address is. The instruction after a call may belong to the next line, the next inlined
// block or even the next function: a return address is therefore looked up at address - 1.
enum class AddressKind { kExact, kReturn };

// One call level. The views live as long as the Symbolizer.
struct Frame {
  std::string_view function;  // Demangled; empty when only the line is known.
  std::string_view
      file;  // As the compiler recorded it, made absolute with its folder; empty when unknown.
  uint32_t line =
      0;  // From 1; 0 when unknown. For a frame that called an inlined one: the line of that call.
  bool inlined = false;  // This function has no frame of its own on the machine's stack here.
};

struct SymbolizerOptions {
  // Put in front of module paths (a container's root file system on this machine). The plain path
  // is tried second, and taken only when the build-id proves it to be the right file.
  std::string sysroot;
  // Folders with debug files: <dir>/.build-id/xx/yyyy.debug, <dir>/<path>.debug, and the
  // .gnu_debuglink name in it. The module's own file is also searched there, by its base name or
  // its build-id, when its path does not lead to it.
  std::vector<std::string> debug_directories = {"/usr/lib/debug"};
  // Ask the servers of DEBUGINFOD_URLS, where it names any, for what is found nowhere else.
  bool debuginfod = true;
  FetchProgress progress;
  // Folders with names that StoreAnswers wrote, the traces' own.
  std::vector<std::string> stored_names;
  // A folder where names are kept from one time to the next; empty: nowhere. Modules are told apart
  // by build-id (by path, size and time of the file where they have none). When the debug data that
  // is found is other or better than what was used, it is read again.
  std::string cache;
};

enum class ModuleState {
  kOk,  // The file that ran was found and read. Whether it has names is said by ModuleStatus's
        // flags.
  kUnverified,      // Found by its path alone: the trace recorded no build-id for it.
                    // none.
  kNoFile,          // No such file (or not readable), in any place that was searched.
  kBuildIdDiffers,  // A file is there, but another one: replaced since. It is not used.
  kUnreadable,  // A file is there, but it is not an ELF file of a supported kind, or it is damaged.
  kNotAFile,    // "[vdso]", "[anon]", "": nothing to look for.
};

struct ModuleStatus {
  ModuleState state = ModuleState::kNoFile;
  std::string
      message;       // One line for people: what happened, to which file. Empty when all is well.
  std::string file;  // The module's file as opened; empty when none is used.
  std::string debug_file;  // The separate debug file in use; empty when there is none.
  bool has_dwarf = false;
  bool has_symtab = false;  // .symtab, or the symbols of .gnu_debugdata.
  bool has_dynsym = false;
  bool has_gopclntab = false;
};

// Thread-compatible: use one from one thread at a time (Lookup fills caches). Opens each module at
// its first Lookup or Status, keeps it mapped until destruction.
class Symbolizer {
 public:
  explicit Symbolizer(SymbolizerOptions options = {});
  ~Symbolizer();  // Writes the cache.
  Symbolizer(const Symbolizer&) = delete;
  Symbolizer& operator=(const Symbolizer&) = delete;

  // Names a module; cheap, opens nothing. The same spec gives the same index.
  ModuleIndex AddModule(const ModuleSpec& spec);

  // The frames at `address`, innermost first: zero or more inlined ones, then the function itself.
  // `address` is an ELF virtual address of the module (the target's pc minus its load bias). Empty
  // when nothing is known about it. An index that AddModule did not give, or an address out of
  // range, is simply not known. The result is cached and lives as long as the Symbolizer.
  absl::Span<const Frame> Lookup(ModuleIndex module, uint64_t address, AddressKind kind);

  // How the search for the module's files ended. Lives as long as the Symbolizer.
  const ModuleStatus& Status(ModuleIndex module);

  // Writes what Lookup answered so far to `folder`, for SymbolizerOptions::stored_names; what it
  // holds already stays. Unavailable: why it cannot be written.
  absl::Status StoreAnswers(const std::string& folder);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_SYMBOLIZER_H_
