#include "preload/session/files.h"

#include <errno.h>
#include <string.h>

#include "preload/base/sys.h"
#include "preload/base/text.h"

namespace ollamatrace {
namespace {

constexpr size_t kMaxExeName = 64;

// Static: the first call of a hook may come on a small stack. One thread at a time comes here.
char g_folder[kMaxOwnPath];
char g_base[kMaxOwnPath];  // the files' path without suffix
char g_path[kMaxOwnPath];

// Makes `path` absolute in g_folder. False when it is too long or there is no working folder.
bool MakeAbsolute(const char* path, const char* below) {
  size_t size = 0;
  if (path[0] != '/') {
    const long length = sys::Call(__NR_getcwd, sys::Arg(g_folder), sizeof g_folder);
    if (length <= 1 || g_folder[0] != '/') return false;
    size = static_cast<size_t>(length) - 1;
  }
  TextWriter text(g_folder + size, sizeof g_folder - size);
  if (path[0] != '/') {
    if (path[0] == '.' && path[1] == '/') path += 2;
    text.Put('/');
  }
  text.Put(path).Put(below);
  return !text.cut();
}

long MakeFolder() {
  // All parents, too: what cannot be made shows when the files are created.
  long result = 0;
  memcpy(g_path, g_folder, strlen(g_folder) + 1);
  for (size_t i = 1; g_path[i - 1] != '\0'; ++i) {
    if (g_path[i] != '/' && g_path[i] != '\0') continue;
    const char kept = g_path[i];
    g_path[i] = '\0';
    result = sys::MkdirAt(AT_FDCWD, g_path, 0777);
    g_path[i] = kept;
    if (kept == '\0') break;
  }
  return result == -EEXIST ? 0 : result;
}

long CreateBoth(const char* exe, uint64_t start_ns, Journal* journal, OwnFile* trace) {
  long result = MakeFolder();
  if (result != 0) return result;
  // Microseconds tell processes with the same pid apart; a name that is taken all the same is
  // counted up.
  for (uint64_t start = start_ns / 1000; start < start_ns / 1000 + 100; ++start) {
    TextWriter base(g_base, sizeof g_base);
    base.Put(g_folder).Put('/');
    const size_t exe_size = strlen(exe);
    base.Put(exe, exe_size < kMaxExeName ? exe_size : kMaxExeName).Put('.');
    base.Number(static_cast<uint64_t>(sys::Getpid())).Put('.').Number(start);
    TextWriter path(g_path, sizeof g_path);
    path.Put(g_base).Put(".zst");
    if (path.cut()) return -ENAMETOOLONG;
    result = CreateOwnFile(trace, g_path);
    if (result == -EEXIST) continue;
    if (result != 0) return result;
    TextWriter other(g_path, sizeof g_path);
    other.Put(g_base).Put(".journal");
    result = CreateJournal(journal, g_path);
    if (result != 0) CloseOwnFile(trace, true);
    return result;
  }
  return result;
}

void Complain(Settings* settings, const char* folder, long error) {
  const size_t used = strlen(settings->complaints);
  TextWriter text(settings->complaints + used, sizeof settings->complaints - used);
  text.Put(folder).Put(": no traces can be written there (error ");
  text.Number(static_cast<uint64_t>(-error)).Put(")\n");
}

}  // namespace

bool CreateSessionFiles(Settings* settings, const char* exe, uint64_t start_ns, Journal* journal,
                        OwnFile* trace) {
  struct {
    const char* path;
    const char* below;
  } const places[] = {
      {settings->folder != nullptr ? settings->folder : "ollamatrace", ""},
      {settings->temporary != nullptr ? settings->temporary : "/tmp", "/ollamatrace"},
  };
  // In a fork child: where the parent's are, whatever the working folder is now.
  const bool inherited = g_folder[0] != '\0';
  if (inherited && CreateBoth(exe, start_ns, journal, trace) == 0) return true;
  for (const auto& place : places) {
    long result = -ENAMETOOLONG;
    if (MakeAbsolute(place.path, place.below)) {
      result = CreateBoth(exe, start_ns, journal, trace);
      if (result == 0) return true;
    }
    Complain(settings, g_folder, result);
    if (g_base[0] != '\0') WriteLog(settings->complaints);
  }
  g_folder[0] = '\0';
  g_base[0] = '\0';
  return false;
}

const char* SessionFolder() { return g_folder; }

void WriteLog(const char* text) {
  if (g_base[0] == '\0') return;
  TextWriter path(g_path, sizeof g_path);
  path.Put(g_base).Put(".log");
  const long fd = sys::Open(g_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (sys::Failed(fd)) return;
  if (FileSizeAllowed(64u << 10)) {
    sys::Write(static_cast<int>(fd), text, strlen(text));
  }
  sys::Close(static_cast<int>(fd));
}

}  // namespace ollamatrace
