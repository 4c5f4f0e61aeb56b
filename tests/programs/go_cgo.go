// A Go program with cgo: C blocks allocated on Go's system stacks, from many goroutines, and a child started Go's way.
package main

/*
#include <stdlib.h>
__attribute__((noinline)) void *KeepFromGo(size_t size) {
  void *block = malloc(size);
  __asm__ volatile("" : "+r"(block) : : "memory");
  return block;
}
*/
import "C"

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
)

func main() {
	var group sync.WaitGroup
	for i := 0; i < 8; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			var kept [][]byte
			for k := 0; k < 500; k++ {
				C.KeepFromGo(71)
				C.free(C.malloc(C.size_t(k)))
				kept = append(kept, make([]byte, 1000))
			}
			_ = kept
		}()
	}
	group.Wait()
	output, err := exec.Command("/bin/echo", "a child of Go's").CombinedOutput()
	fmt.Print(string(output), err, "\n")
	if path := os.Getenv("EXPECT_FILE"); path != "" {
		line := fmt.Sprintf("survivors %d KeepFromGo 4000 %d\nprocesses 2\n", os.Getpid(), 4000*71)
		if os.Getenv("GO_STRIPPED") != "" {
			line = "processes 2\n" // No symbol names the C function any more.
		}
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
		if err == nil {
			file.WriteString(line)
			file.Close()
		}
	}
	os.Exit(23)
}
