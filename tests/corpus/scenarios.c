// corpus_c NAME: scenarios of C, whose truth stands in c.json.
#include "tests/corpus/requests.h"

#define KEEPER __attribute__((noinline)) static

KEEPER void CopyHeader(void) { Touch(strdup("Content-Type: application/json; charset=utf-8")); }
KEEPER void AllocateAligned(void) {
  void* block = NULL;
  if (posix_memalign(&block, 64, 1024) != 0) abort();
  Touch(block);
}
KEEPER void ZeroedState(void) { Touch(calloc(10, 77)); }
KEEPER void* GrowBuffer(void* buffer, size_t size) {
  void* larger = realloc(buffer, size);
  if (larger == NULL) abort();
  Touch(larger);
  return larger;
}

struct Node {
  struct Node* next;
  char payload[120];
};
KEEPER struct Node* PushNode(struct Node* head) {
  struct Node* node = malloc(sizeof *node);
  if (node == NULL) abort();
  node->next = head;
  return node;
}
KEEPER void* RingSlot(void* old) {
  free(old);
  return malloc(2000);
}

static struct Node* list_head;
static void* buffer;
static void* ring[50];

int main(int argc, char** argv) {
  int i;
  const char* name = argc == 2 ? argv[1] : "";
  if (strcmp(name, "strdup") == 0) {
    for (i = 0; i < 300; ++i) CopyHeader(), Answered();
  } else if (strcmp(name, "aligned") == 0) {
    for (i = 0; i < 300; ++i) AllocateAligned(), Answered();
  } else if (strcmp(name, "calloc_error_path") == 0) {
    for (i = 0; i < 900; ++i) {
      if (i % 9 == 4) ZeroedState();
      Answered();
    }
  } else if (strcmp(name, "realloc_growth") == 0) {
    for (i = 0; i < 300; ++i) {
      buffer = GrowBuffer(buffer, 256 * (size_t)(i + 1));
      Answered();
    }
  } else if (strcmp(name, "realloc_to_cap") == 0) {
    for (i = 0; i < 400; ++i) {
      if (i < 100) buffer = GrowBuffer(buffer, 1024 * (size_t)(i + 1));
      Answered();
    }
  } else if (strcmp(name, "linked_list") == 0) {
    for (i = 0; i < 300; ++i) {
      list_head = PushNode(list_head);
      Answered();
    }
  } else if (strcmp(name, "ring") == 0) {
    for (i = 0; i < 500; ++i) {
      ring[i % 50] = RingSlot(ring[i % 50]);
      Answered();
    }
  } else {
    return 2;
  }
  Touch(list_head);
  return 0;
}
