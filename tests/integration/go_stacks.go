// A cgo program whose C blocks hang on known Go functions; one of them is reached through a call back from C.
package main

/*
#include <stdlib.h>
void CallBack(void);
__attribute__((noinline)) static void *KeepDirectly(size_t size) {
  void *block = malloc(size);
  __asm__ volatile("" : "+r"(block) : : "memory");
  return block;
}
__attribute__((noinline)) static void *KeepInCallback(size_t size) {
  void *block = calloc(1, size);
  __asm__ volatile("" : "+r"(block) : : "memory");
  return block;
}
__attribute__((noinline)) static void CallGoBack(void) {
  CallBack();
  __asm__ volatile("");
}
*/
import "C"

import (
	"os"
	"strconv"
)

//go:noinline
func innerOne() { C.KeepDirectly(61) }

//go:noinline
func outerOne() { innerOne() }

//export CallBack
func CallBack() { innerTwo() }

//go:noinline
func innerTwo() { C.KeepInCallback(62) }

//go:noinline
func outerTwo() { C.CallGoBack() }

func main() {
	rounds := 10
	if n, err := strconv.Atoi(os.Getenv("GO_STACKS_ROUNDS")); err == nil {
		rounds = n
	}
	done := make(chan bool)
	for i := 0; i < 4; i++ {
		go func() {
			for k := 0; k < rounds; k++ {
				outerOne()
				outerTwo()
			}
			done <- true
		}()
	}
	for i := 0; i < 4; i++ {
		<-done
	}
	os.Stdout.WriteString("done\n")
}
