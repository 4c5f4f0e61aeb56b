#include "analyzer/diagnose/advice_table.h"

namespace ollamatrace {
namespace {

// Sources: "llama.cpp b10488 FILE:LINE" and "ollama v0.33 FILE" were read; "#N" are issues there.
constexpr Site kTable[] = {
    // ---- llama-server
    {"the prompt cache of llama-server", SiteKind::kCache, "server_prompt_cache::alloc", "",
     "LLAMA_ARG_CACHE_RAM=0 (--cache-ram 0) turns it off and confirms it; another value is its cap "
     "in MiB, 8192 by default, for each runner. Children of `ollama serve` get the variable from "
     "its environment",
     "llama.cpp b10488 common/arg.cpp:1706, tools/server/server-task.cpp:1708; #21690, #25437"},
    {"the prompt cache of llama-server", SiteKind::kCache, "prompt_save", "",
     "LLAMA_ARG_CACHE_RAM=0 (--cache-ram 0) turns it off and confirms it; another value is its cap "
     "in MiB, 8192 by default, for each runner. Children of `ollama serve` get the variable from "
     "its environment",
     "llama.cpp b10488 common/arg.cpp:1706, tools/server/server-context.cpp:255; ollama #18106"},
    {"context checkpoints of llama-server", SiteKind::kCache, "create_checkpoint", "",
     "LLAMA_ARG_CTX_CHECKPOINTS=0 (--ctx-checkpoints 0) turns them off and confirms it; another "
     "value is how many each slot keeps",
     "llama.cpp b10488 common/arg.cpp:1688, tools/server/server-context.cpp:2242; ollama #16744"},
    {"the log of llama.cpp", SiteKind::kCache, "common_log::add", "",
     "a ring of 512 entries, each with room for the longest line that it has held: it ends by "
     "itself. A lower LLAMA_ARG_LOG_VERBOSITY (--log-verbosity) has shorter lines",
     "llama.cpp b10488 common/log.cpp:130, common/arg.cpp:3885"},
    // ---- ggml on CUDA
    {"CUDA graphs of ggml", SiteKind::kPerRequest, "ggml_cuda_graph", "",
     "GGML_CUDA_DISABLE_GRAPHS=1 turns them off: memory that is flat then was theirs",
     "llama.cpp b10488 ggml/src/ggml-cuda/ggml-cuda.cu:2642, common.cuh:1258; #25835"},
    {"CUDA graphs of ggml", SiteKind::kPerRequest, "cudaGraphInstantiate", "",
     "GGML_CUDA_DISABLE_GRAPHS=1 turns them off: memory that is flat then was theirs",
     "llama.cpp b10488 ggml/src/ggml-cuda/ggml-cuda.cu:2642; #25835"},
    {"ggml's CUDA pool of single buffers", SiteKind::kPool, "ggml_cuda_pool_leg", "",
     "it keeps buffers a little too small to use again; a build without GGML_CUDA_NO_VMM uses the "
     "pool of mapped pages instead. A smaller LLAMA_ARG_UBATCH makes its peak smaller",
     "llama.cpp b10488 ggml/src/ggml-cuda/ggml-cuda.cu:419; #22107"},
    {"ggml's CUDA pool of mapped pages", SiteKind::kPool, "ggml_cuda_pool_vmm", "",
     "it only grows, to the largest batch: a smaller LLAMA_ARG_UBATCH makes its peak smaller, "
     "unloading the model frees it",
     "llama.cpp b10488 ggml/src/ggml-cuda/ggml-cuda.cu:536; ollama #9791"},
    {"cuBLAS's workspace", SiteKind::kPool, "cublas", "",
     "one for each handle and stream; CUBLAS_WORKSPACE_CONFIG sets its size",
     "cuBLAS manual, section 2.1.4 (results reproducibility)"},
    {"cuBLAS's workspace", SiteKind::kPool, "", "libcublas",
     "one for each handle and stream; CUBLAS_WORKSPACE_CONFIG sets its size",
     "cuBLAS manual, section 2.1.4 (results reproducibility)"},
    // ---- llama.cpp and ggml
    {"the KV cache", SiteKind::kModel, "llama_kv_cache", "",
     "its size follows from context length x parallel requests: OLLAMA_CONTEXT_LENGTH, "
     "OLLAMA_NUM_PARALLEL, OLLAMA_KV_CACHE_TYPE=q8_0 (with flash attention); llama-server: "
     "LLAMA_ARG_CTX_SIZE, LLAMA_ARG_N_PARALLEL",
     "ollama v0.33 envconfig/config.go; llama.cpp b10488 common/arg.cpp:1646, 2542"},
    {"the recurrent state of the context", SiteKind::kModel, "llama_memory_recurrent", "",
     "its size follows from the number of parallel requests: OLLAMA_NUM_PARALLEL, "
     "LLAMA_ARG_N_PARALLEL",
     "ollama v0.33 envconfig/config.go; llama.cpp b10488 common/arg.cpp:2542"},
    {"the model's weights", SiteKind::kModel, "llama_model_load", "",
     "goes with the model: keep_alive (OLLAMA_KEEP_ALIVE) says for how long it stays, "
     "OLLAMA_MAX_LOADED_MODELS how many do. Mapped weights (LLAMA_ARG_MMAP) are file pages",
     "ollama v0.33 envconfig/config.go; llama.cpp b10488 common/arg.cpp:2654"},
    {"the model's weights", SiteKind::kModel, "llama_model::load_tensors", "",
     "goes with the model: keep_alive (OLLAMA_KEEP_ALIVE) says for how long it stays, "
     "OLLAMA_MAX_LOADED_MODELS how many do. Mapped weights (LLAMA_ARG_MMAP) are file pages",
     "ollama v0.33 envconfig/config.go; llama.cpp b10488 common/arg.cpp:2654"},
    {"the vocabulary", SiteKind::kModel, "llama_vocab::", "",
     "goes with the model: keep_alive (OLLAMA_KEEP_ALIVE) says for how long it stays",
     "ollama v0.33 envconfig/config.go"},
    {"ggml's compute buffers", SiteKind::kPool, "ggml_gallocr_reserve", "",
     "as large as the largest batch needed: a smaller LLAMA_ARG_UBATCH makes them smaller, "
     "unloading the model frees them",
     "llama.cpp b10488 ggml/src/ggml-alloc.c:824, common/arg.cpp:1671; ollama #9791"},
    {"ggml's compute buffers", SiteKind::kPool, "ggml_backend_sched", "",
     "as large as the largest batch needed: a smaller LLAMA_ARG_UBATCH makes them smaller, "
     "unloading the model frees them",
     "llama.cpp b10488 ggml/src/ggml-alloc.c:824, common/arg.cpp:1671; ollama #9791"},
    {"image contexts", SiteKind::kPerRequest, "clip_image", "",
     "image contexts were leaked by older versions: compare with a newer one", "ollama #10434"},
    {"grammar objects", SiteKind::kPerRequest, "llama_grammar", "",
     "grammar objects were leaked by older versions: compare with a newer one", "ollama #10688"},
    // ---- Go
    {"Go's heap", SiteKind::kGoHeap, "runtime.(*mheap)", "",
     "GOMEMLIMIT=1GiB (soft limit) or GOGC=50 make the collector work harder; they act on "
     "`ollama serve`, not on llama-server",
     "Go's documentation of package runtime, environment variables"},
    {"Go's heap", SiteKind::kGoHeap, "runtime.sysAlloc", "",
     "GOMEMLIMIT=1GiB (soft limit) or GOGC=50 make the collector work harder; they act on "
     "`ollama serve`, not on llama-server",
     "Go's documentation of package runtime, environment variables"},
};

}  // namespace

const absl::Span<const Site> kSites = kTable;

}  // namespace ollamatrace
