#include "analyzer/soak/api.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {
namespace {

using ::testing::HasSubstr;

ApiRequest Request(Api api, bool stream) { return {api, "tiny", "why?", stream, 8}; }

TEST(Api, NamesAndPaths) {
  for (const std::string& name : ApiNames()) {
    Api api;
    ASSERT_TRUE(ParseApi(name, api).ok());
    EXPECT_EQ(ApiPath(api)[0], '/');
  }
  Api api;
  EXPECT_THAT(std::string(ParseApi("rpc", api).message()), HasSubstr("generate, chat, embed"));
}

TEST(Api, Bodies) {
  const auto body = [](Api api, bool stream) {
    return nlohmann::json::parse(RequestBody(Request(api, stream)));
  };
  EXPECT_EQ(body(Api::kGenerate, false)["prompt"], "why?");
  EXPECT_EQ(body(Api::kGenerate, false)["stream"], false);
  EXPECT_EQ(body(Api::kGenerate, true)["options"]["num_predict"], 8);
  EXPECT_EQ(body(Api::kChat, true)["messages"][0]["content"], "why?");
  EXPECT_EQ(body(Api::kEmbed, false)["input"], "why?");
  EXPECT_EQ(body(Api::kOpenAiChat, true)["stream_options"]["include_usage"], true);
  EXPECT_EQ(body(Api::kOpenAiCompletion, false)["max_tokens"], 8);
}

TEST(Api, OllamasAnswers) {
  const ApiRequest whole = Request(Api::kGenerate, false), stream = Request(Api::kGenerate, true);
  ApiAnswer answer = ParseAnswer(whole, 200, R"({"response":"a b","done":true,"eval_count":7})");
  EXPECT_EQ(answer.error, "");
  EXPECT_EQ(answer.tokens, 7u);
  answer = ParseAnswer(stream, 200,
                       "{\"response\":\"a\",\"done\":false}\n{\"response\":\"\",\"done\":true,"
                       "\"eval_count\":3}\n");
  EXPECT_EQ(answer.error, "");
  EXPECT_EQ(answer.tokens, 3u);
  // The connection was closed too early; an error in the middle.
  EXPECT_THAT(ParseAnswer(stream, 200, "{\"response\":\"a\",\"done\":false}\n").error,
              HasSubstr("no whole answer"));
  EXPECT_EQ(ParseAnswer(stream, 200, "{\"response\":\"a\"}\n{\"error\":\"out of memory\"}\n").error,
            "out of memory");
  EXPECT_EQ(ParseAnswer(whole, 404, R"({"error":"model 'x' not found"})").error,
            "HTTP 404: model 'x' not found");
  answer = ParseAnswer(Request(Api::kEmbed, true), 200,
                       R"({"embeddings":[[0.1]],"prompt_eval_count":5})");
  EXPECT_EQ(answer.error, "");
  EXPECT_EQ(answer.tokens, 5u);
}

TEST(Api, OpenAisAnswers) {
  const ApiRequest whole = Request(Api::kOpenAiChat, false),
                   stream = Request(Api::kOpenAiChat, true);
  ApiAnswer answer = ParseAnswer(whole, 200, R"({"choices":[{}],"usage":{"completion_tokens":9}})");
  EXPECT_EQ(answer.error, "");
  EXPECT_EQ(answer.tokens, 9u);
  answer = ParseAnswer(stream, 200,
                       "data: {\"choices\":[{}]}\r\n\r\ndata: {\"choices\":[],\"usage\":"
                       "{\"completion_tokens\":4}}\n\ndata: [DONE]\n\n");
  EXPECT_EQ(answer.error, "");
  EXPECT_EQ(answer.tokens, 4u);
  EXPECT_THAT(ParseAnswer(stream, 200, "data: {\"choices\":[{}]}\n\n").error,
              HasSubstr("no whole answer"));
  EXPECT_EQ(ParseAnswer(whole, 500, R"({"error":{"message":"boom","code":500}})").error,
            "HTTP 500: boom");
}

TEST(Api, WhatIsNoJson) {
  EXPECT_THAT(ParseAnswer(Request(Api::kGenerate, false), 200, "<html>\x01").error,
              HasSubstr("no whole answer: <html> "));
  EXPECT_EQ(ErrorText("  Bad\ngateway "), "Bad gateway");
  EXPECT_EQ(ErrorText(std::string(5000, 'x')).size(), 200u);
}

}  // namespace
}  // namespace ollamatrace
