// corpus_go NAME: scenarios of Go with cgo, whose truth stands in go.json.
package main

/*
#cgo CFLAGS: -O1 -g -I${SRCDIR}
#include "requests.h"

__attribute__((noinline)) static void* CgoKeeps(size_t size) {
  void* block = malloc(size);
  Touch(block);
  return block;
}
static void GoAnswered(void) { Answered(); }
*/
import "C"

import (
	"os"
	"unsafe"
)

//go:noinline
func leakContext() { C.CgoKeeps(2000) }

//go:noinline
func leakCString(prompt string) { C.CString(prompt) }

//go:noinline
func cacheEntry(slots []unsafe.Pointer, i int) {
	C.free(slots[i%len(slots)])
	slots[i%len(slots)] = C.CgoKeeps(3000)
}

//go:noinline
func churnGoHeap() int {
	sum := 0
	for i := 0; i < 50; i++ {
		block := make([]byte, 10000)
		block[i] = 1
		sum += len(block) + int(block[i])
	}
	return sum
}

func main() {
	slots := make([]unsafe.Pointer, 40)
	prompt := string(make([]byte, 900))
	for i := 0; i < 300; i++ {
		switch os.Args[1] {
		case "cgo_leak":
			leakContext()
		case "cstring_leak":
			leakCString(prompt)
		case "goroutine_leak":
			done := make(chan bool)
			go func() {
				if i%2 == 0 {
					leakContext()
				}
				done <- true
			}()
			<-done
		case "cgo_cache":
			cacheEntry(slots, i)
		case "go_heap":
			churnGoHeap()
		default:
			os.Exit(2)
		}
		C.GoAnswered()
	}
}
