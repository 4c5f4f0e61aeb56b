#include "analyzer/soak/drive.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "analyzer/soak/http_client.h"

namespace ollamatrace {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxErrors = 20;

class Driver {
 public:
  Driver(const DriveOptions& options, const DriveProgress& progress)
      : options_(options), progress_(progress), begin_(Clock::now()) {}

  DriveResult Run() {
    std::vector<std::thread> workers;
    running_ = options_.workers;
    for (uint64_t i = 0; i < options_.workers; ++i) {
      workers.emplace_back([this] {
        Work();
        const std::lock_guard<std::mutex> lock(mutex_);
        --running_;
        changed_.notify_all();
      });
    }
    {
      std::unique_lock<std::mutex> lock(mutex_);
      while (running_ > 0) {
        changed_.wait_for(lock, std::chrono::milliseconds(100));
        lock.unlock();
        if (options_.stop()) Stop();
        lock.lock();
        result_.seconds = Since(begin_);
        if (progress_) progress_(result_);
      }
    }
    for (std::thread& worker : workers) worker.join();
    result_.seconds = Since(begin_);
    return std::move(result_);
  }

 private:
  static double Since(Clock::time_point moment) {
    return std::chrono::duration<double>(Clock::now() - moment).count();
  }

  void Stop() {
    const std::lock_guard<std::mutex> lock(stop_mutex_);
    stopped_ = true;
    stop_changed_.notify_all();
  }

  // Until the request is due. False: it is not to be sent.
  bool WaitFor(uint64_t ticket, Clock::time_point& due) {
    std::unique_lock<std::mutex> lock(stop_mutex_);
    if (options_.rate) {
      due = begin_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                         static_cast<double>(ticket) / *options_.rate));
      if (options_.seconds &&
          std::chrono::duration<double>(due - begin_).count() >= *options_.seconds) {
        return false;
      }
      stop_changed_.wait_until(lock, due, [this] { return stopped_; });
    } else {
      due = Clock::now();
    }
    return !stopped_ && !(options_.seconds && Since(begin_) >= *options_.seconds);
  }

  void Work() {
    HttpClient client;
    for (;;) {
      const uint64_t ticket = next_.fetch_add(1);
      if (options_.requests && ticket >= *options_.requests) return;
      Clock::time_point due;
      if (!WaitFor(ticket, due)) return;
      Send(client, options_.first_number + ticket, due);
    }
  }

  void Send(HttpClient& client, uint64_t number, Clock::time_point due) {
    ApiRequest request = options_.request;
    request.prompt = options_.prompts->At(number);
    const std::string body = RequestBody(request);
    std::optional<double> first_byte;
    MarksFile::Request mark;
    mark.number = number;
    mark.start_ns = MonotonicNow();
    const HttpAnswer http = client.Post(options_.url + ApiPath(request.api), body,
                                        options_.request_seconds, [&](absl::string_view) {
                                          if (!first_byte) first_byte = Since(due);
                                        });
    const double latency = Since(due);
    mark.end_ns = MonotonicNow();
    mark.status = http.status;
    ApiAnswer answer;
    if (http.status == 0) {
      answer.error = http.error;
    } else {
      answer = ParseAnswer(request, http.status, http.body);
    }
    mark.tokens = answer.tokens;
    mark.answered = answer.error.empty();
    if (options_.marks != nullptr) options_.marks->Add(mark);

    bool give_up = false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ++result_.sent;
      if (mark.answered) {
        ++result_.answered;
        result_.tokens += answer.tokens;
        result_.latencies.Add(latency);
        if (first_byte && request.stream) result_.first_bytes.Add(*first_byte);
      } else {
        ++result_.failed;
        if (http.timed_out) ++result_.timed_out;
        if (result_.errors.size() < kMaxErrors || result_.errors.count(answer.error) > 0) {
          ++result_.errors[answer.error];
        }
        give_up = result_.answered == 0 && result_.failed >= kGiveUp;
      }
    }
    if (give_up) Stop();
  }

  const DriveOptions& options_;
  const DriveProgress& progress_;
  const Clock::time_point begin_;
  std::atomic<uint64_t> next_{0};

  std::mutex mutex_;  // of the next three
  std::condition_variable changed_;
  uint64_t running_ = 0;
  DriveResult result_;

  std::mutex stop_mutex_;
  std::condition_variable stop_changed_;
  bool stopped_ = false;
};

}  // namespace

DriveResult Drive(const DriveOptions& options, const DriveProgress& progress) {
  return Driver(options, progress).Run();
}

}  // namespace ollamatrace
