// Ollama's and OpenAI's interfaces: bodies of requests, and what an answer says.
#ifndef OLLAMATRACE_ANALYZER_SOAK_API_H_
#define OLLAMATRACE_ANALYZER_SOAK_API_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ollamatrace {

enum class Api { kGenerate, kChat, kEmbed, kOpenAiChat, kOpenAiCompletion };

// "generate", "chat", "embed", "openai-chat", "openai-completion".
absl::Status ParseApi(absl::string_view text, Api& api);
std::vector<std::string> ApiNames();

// "/api/generate".
const char* ApiPath(Api api);

struct ApiRequest {
  Api api = Api::kGenerate;
  std::string model;
  std::string prompt;
  bool stream = false;
  uint64_t tokens = 16;  // to generate, at most
};
std::string RequestBody(const ApiRequest& request);

struct ApiAnswer {
  uint64_t tokens = 0;  // generated; of an embedding, read
  std::string error;    // empty: a whole and good answer
};
// `status` and `body` as they came.
ApiAnswer ParseAnswer(const ApiRequest& request, int status, absl::string_view body);

// The text of an error's body, {"error": "..."} or {"error": {"message": "..."}}, or its beginning.
std::string ErrorText(absl::string_view body);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SOAK_API_H_
