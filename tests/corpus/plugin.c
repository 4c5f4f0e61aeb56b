// A plug-in that forgets its tokens.
#include "tests/corpus/requests.h"

__attribute__((noinline)) static void SplitTokens(int i) {
  char* tokens = malloc(640);
  if (tokens != NULL) snprintf(tokens, 640, "tokens of %d", i);
  Touch(tokens);
}

__attribute__((visibility("default"))) void corpus_tokenize(int i) {
  SplitTokens(i);
  Touch(NULL);
}
