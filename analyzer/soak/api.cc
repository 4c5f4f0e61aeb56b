#include "analyzer/soak/api.h"

#include <iterator>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxErrorText = 200;

struct ApiName {
  const char* name;
  const char* path;
};
// In the order of Api.
constexpr ApiName kApis[] = {{"generate", "/api/generate"},
                             {"chat", "/api/chat"},
                             {"embed", "/api/embed"},
                             {"openai-chat", "/v1/chat/completions"},
                             {"openai-completion", "/v1/completions"}};

bool IsOpenAi(Api api) { return api == Api::kOpenAiChat || api == Api::kOpenAiCompletion; }

std::optional<Json> Parse(absl::string_view text) {
  Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  return json;
}

std::string ErrorOf(const Json& json) {
  const auto error = json.find("error");
  if (error == json.end() || error->is_null()) return "";
  if (error->is_string()) return error->get<std::string>();
  if (error->is_object()) {
    const auto message = error->find("message");
    if (message != error->end() && message->is_string()) return message->get<std::string>();
  }
  return error->dump(-1, ' ', false, Json::error_handler_t::replace);
}

uint64_t Count(const Json& json, const char* key) {
  const auto count = json.find(key);
  return count != json.end() && count->is_number_unsigned() ? count->get<uint64_t>() : 0;
}

// What one JSON object of an answer adds to it.
struct Reader {
  const ApiRequest& request;
  ApiAnswer answer;
  bool done = false;
  uint64_t pieces = 0;

  void Take(const Json& json) {
    if (std::string error = ErrorOf(json); !error.empty()) {
      answer.error = std::move(error);
      return;
    }
    ++pieces;
    if (IsOpenAi(request.api)) {
      const auto usage = json.find("usage");
      if (usage != json.end() && usage->is_object()) {
        answer.tokens = Count(*usage, "completion_tokens");
      }
      if (!request.stream) done = json.contains("choices");
      return;
    }
    if (request.api == Api::kEmbed) {
      answer.tokens = Count(json, "prompt_eval_count");
      done = json.contains("embeddings");
      return;
    }
    const auto last = json.find("done");
    if (last != json.end() && last->is_boolean() && last->get<bool>()) {
      done = true;
      answer.tokens = Count(json, "eval_count");
    }
  }
};

std::string Shorten(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  if (text.size() > kMaxErrorText) text = text.substr(0, kMaxErrorText - 3) + "...";
  return text;
}

}  // namespace

absl::Status ParseApi(absl::string_view text, Api& api) {
  for (size_t i = 0; i < std::size(kApis); ++i) {
    if (text != kApis[i].name) continue;
    api = static_cast<Api>(i);
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("not known; give ", absl::StrJoin(ApiNames(), ", ")));
}

std::vector<std::string> ApiNames() {
  std::vector<std::string> names;
  for (const ApiName& one : kApis) names.emplace_back(one.name);
  return names;
}

const char* ApiPath(Api api) { return kApis[static_cast<size_t>(api)].path; }

std::string RequestBody(const ApiRequest& request) {
  Json body = {{"model", request.model}};
  const Json messages = Json::array({{{"role", "user"}, {"content", request.prompt}}});
  switch (request.api) {
    case Api::kGenerate:
      body["prompt"] = request.prompt;
      break;
    case Api::kChat:
      body["messages"] = messages;
      break;
    case Api::kEmbed:
      body["input"] = request.prompt;
      break;
    case Api::kOpenAiChat:
      body["messages"] = messages;
      break;
    case Api::kOpenAiCompletion:
      body["prompt"] = request.prompt;
      break;
  }
  if (IsOpenAi(request.api)) {
    body["max_tokens"] = request.tokens;
    body["stream"] = request.stream;
    if (request.stream) body["stream_options"] = {{"include_usage", true}};
  } else if (request.api != Api::kEmbed) {
    body["options"] = {{"num_predict", request.tokens}};
    body["stream"] = request.stream;
  }
  return body.dump(-1, ' ', false, Json::error_handler_t::replace);
}

ApiAnswer ParseAnswer(const ApiRequest& request, int status, absl::string_view body) {
  Reader reader = {request, {}, false, 0};
  if (status != 200) {
    reader.answer.error = absl::StrCat("HTTP ", status, ": ", ErrorText(body));
    return reader.answer;
  }
  if (!request.stream || request.api == Api::kEmbed) {
    const std::optional<Json> json = Parse(body);
    if (json) reader.Take(*json);
  } else {
    for (absl::string_view line : absl::StrSplit(body, '\n')) {
      line = absl::StripAsciiWhitespace(line);
      // Server-sent events (OpenAI), or a JSON object a line (Ollama).
      if (IsOpenAi(request.api) && !absl::ConsumePrefix(&line, "data:")) continue;
      line = absl::StripAsciiWhitespace(line);
      if (line == "[DONE]") reader.done = true;
      if (const std::optional<Json> json = Parse(line)) reader.Take(*json);
    }
    if (reader.answer.tokens == 0 && reader.pieces > 1) reader.answer.tokens = reader.pieces - 1;
  }
  if (reader.answer.error.empty() && !reader.done) {
    reader.answer.error =
        absl::StrCat("no whole answer: ", Shorten(std::string(body.substr(0, 400))));
  }
  reader.answer.error = Shorten(reader.answer.error);
  return reader.answer;
}

std::string ErrorText(absl::string_view body) {
  if (const std::optional<Json> json = Parse(body)) {
    if (std::string error = ErrorOf(*json); !error.empty()) return Shorten(std::move(error));
  }
  return Shorten(std::string(absl::StripAsciiWhitespace(body.substr(0, 400))));
}

}  // namespace ollamatrace
