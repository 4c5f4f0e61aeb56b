#include <sqlite3.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "analyzer/export/export_names.h"
#include "analyzer/export/exporters.h"

namespace ollamatrace {
namespace {

constexpr char kSchema[] = R"(
CREATE TABLE session (title TEXT, headline TEXT, start_ns INTEGER, duration REAL, requests INTEGER, live_bytes INTEGER);
CREATE TABLE process (id INTEGER PRIMARY KEY, pid INTEGER, ppid INTEGER, exe TEXT, started REAL, ended REAL, ending TEXT,
  mode TEXT, heap_live_bytes INTEGER, heap_peak_bytes INTEGER, rss_anon INTEGER, lost_events INTEGER);
CREATE TABLE frame (id INTEGER PRIMARY KEY, function TEXT, file TEXT, line INTEGER, module TEXT, offset INTEGER, inlined INTEGER);
CREATE TABLE grp (rank INTEGER PRIMARY KEY, process INTEGER REFERENCES process(id), domain TEXT, mapping TEXT, device INTEGER,
  counts_as_memory INTEGER, thread TEXT,
  verdict TEXT, confidence REAL, live_bytes INTEGER, live_blocks INTEGER, allocations INTEGER, frees INTEGER,
  allocated_bytes INTEGER, peak_bytes INTEGER, growth_bytes INTEGER, bytes_per_request REAL, bytes_per_hour REAL,
  first_seen REAL, last_seen REAL, blamed_frame INTEGER REFERENCES frame(id), evidence TEXT, advice TEXT);
CREATE TABLE grp_frame (grp INTEGER REFERENCES grp(rank), depth INTEGER, frame INTEGER REFERENCES frame(id),
  PRIMARY KEY (grp, depth)) WITHOUT ROWID;
CREATE TABLE sample (process INTEGER REFERENCES process(id), t REAL, domain TEXT, mapping TEXT, live_bytes INTEGER);
)";

class Database {
 public:
  Database() = default;
  ~Database() { sqlite3_close(database_); }
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  bool Open(const std::string& path) {
    return Note(sqlite3_open_v2(path.c_str(), &database_,
                                SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr));
  }
  bool Run(const char* sql) {
    return Note(sqlite3_exec(database_, sql, nullptr, nullptr, nullptr));
  }
  sqlite3* get() { return database_; }
  bool Note(int result) {
    if (result != SQLITE_OK && result != SQLITE_DONE && result != SQLITE_ROW && error_.empty()) {
      error_ = database_ == nullptr ? sqlite3_errstr(result) : sqlite3_errmsg(database_);
    }
    return error_.empty();
  }
  const std::string& error() const { return error_; }

 private:
  sqlite3* database_ = nullptr;
  std::string error_;
};

// An INSERT whose values are given one after the other.
class Insert {
 public:
  Insert(Database& database, const char* table, int columns) : database_(database) {
    std::string sql = absl::StrCat("INSERT INTO ", table, " VALUES (?");
    for (int i = 1; i < columns; ++i) sql += ",?";
    database_.Note(
        sqlite3_prepare_v2(database.get(), (sql + ")").c_str(), -1, &statement_, nullptr));
  }
  ~Insert() { sqlite3_finalize(statement_); }
  Insert(const Insert&) = delete;
  Insert& operator=(const Insert&) = delete;

  Insert& Add(const std::string& text) {
    if (text.empty()) return Null();
    sqlite3_bind_text(statement_, ++column_, text.data(), static_cast<int>(text.size()),
                      SQLITE_TRANSIENT);
    return *this;
  }
  Insert& Add(uint64_t number) {
    sqlite3_bind_int64(statement_, ++column_, static_cast<sqlite3_int64>(number));
    return *this;
  }
  Insert& Add(double number) {
    sqlite3_bind_double(statement_, ++column_, number);
    return *this;
  }
  Insert& Null() {
    sqlite3_bind_null(statement_, ++column_);
    return *this;
  }
  template <typename T>
  Insert& Add(const std::optional<T>& value) {
    return value ? Add(*value) : Null();
  }
  void Row() {
    if (statement_ == nullptr) return;
    database_.Note(sqlite3_step(statement_));
    sqlite3_reset(statement_);
    column_ = 0;
  }

 private:
  Database& database_;
  sqlite3_stmt* statement_ = nullptr;
  int column_ = 0;
};

std::optional<double> Value(const std::optional<ReportRate>& rate) {
  return rate ? std::optional<double>(rate->value) : std::nullopt;
}

void Fill(const Report& report, Database& database) {
  Insert(database, "session", 6)
      .Add(report.title)
      .Add(report.headline)
      .Add(report.start_wall_ns)
      .Add(report.duration)
      .Add(report.requests)
      .Add(report.live_bytes_in_all)
      .Row();
  Insert process(database, "process", 12);
  for (size_t i = 0; i < report.processes.size(); ++i) {
    const ReportProcess& one = report.processes[i];
    process.Add(uint64_t{i}).Add(uint64_t{one.pid}).Add(uint64_t{one.ppid}).Add(one.exe);
    process.Add(one.start).Add(one.last).Add(one.end).Add(one.mode);
    process.Add(one.host.live_bytes).Add(one.host.peak_bytes).Add(one.memory.rss_anon);
    process.Add(one.lost_events).Row();
  }
  Insert frame(database, "frame", 7);
  for (size_t i = 0; i < report.frames.size(); ++i) {
    const ReportFrame& one = report.frames[i];
    frame.Add(uint64_t{i}).Add(one.function).Add(one.file);
    (one.line == 0 ? frame.Null() : frame.Add(uint64_t{one.line})).Add(one.module);
    frame.Add(one.offset).Add(uint64_t{one.inlined}).Row();
  }
  Insert group(database, "grp", 23), grp_frame(database, "grp_frame", 3);
  for (const ReportGroup& one : report.groups) {
    std::string evidence;
    for (const std::string& line : one.evidence) absl::StrAppend(&evidence, line, "\n");
    group.Add(one.rank);
    (one.processes.size() == 1 ? group.Add(uint64_t{one.processes.front()}) : group.Null());
    group.Add(one.domain).Add(one.mapping);
    (one.device ? group.Add(uint64_t{*one.device}) : group.Null());
    group.Add(uint64_t{one.counts_as_memory}).Add(one.thread);
    group.Add(one.verdict).Add(one.confidence);
    group.Add(one.live_bytes).Add(one.live_blocks).Add(one.allocations).Add(one.frees);
    group.Add(one.allocated_bytes).Add(one.peak_bytes).Add(static_cast<uint64_t>(one.growth_bytes));
    group.Add(Value(one.bytes_per_request)).Add(Value(one.bytes_per_hour));
    group.Add(one.first_seen).Add(one.last_seen);
    (one.frames.empty() ? group.Null() : group.Add(uint64_t{one.frames[one.blamed_frame]}));
    group.Add(evidence).Add(one.advice).Row();
    for (size_t depth = 0; depth < one.frames.size(); ++depth) {
      grp_frame.Add(one.rank).Add(uint64_t{depth}).Add(uint64_t{one.frames[depth]}).Row();
    }
  }
  if (!report.timeline) return;
  Insert sample(database, "sample", 5);
  for (const ReportProcessCurves& curves : report.timeline->processes) {
    for (const auto& domain : curves.domains) {
      for (size_t i = 0; i < domain.bytes.size(); ++i) {
        if (!domain.bytes[i]) continue;
        sample.Add(uint64_t{curves.process}).Add(report.timeline->times[i]).Add(domain.domain);
        sample.Add(domain.mapping);
        sample.Add(static_cast<uint64_t>(std::llround(std::max(*domain.bytes[i], 0.0)))).Row();
      }
    }
  }
}

}  // namespace

absl::Status ExportSqlite(const Report& report, const std::string& path) {
  std::remove(path.c_str());
  Database database;
  // One transaction, and no journal beside the file: it is made anew, or not at all.
  if (database.Open(path) && database.Run("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;") &&
      database.Run("BEGIN") && database.Run(kSchema)) {
    Fill(report, database);
    database.Run("COMMIT");
  }
  if (database.error().empty()) return absl::OkStatus();
  return absl::UnavailableError(database.error());
}

}  // namespace ollamatrace
