# Where CUDA's headers are, if anywhere: OLLAMATRACE_CUPTI_INCLUDE_DIRS holds cupti.h and cuda.h. Looked for in a toolkit, then
# where scripts/fetch-cuda puts NVIDIA's wheels. No library of CUDA's is ever linked.
find_path(OLLAMATRACE_CUPTI_INCLUDE_DIR cupti.h
  HINTS "$ENV{CUDA_HOME}" "$ENV{CUDA_PATH}" /usr/local/cuda /opt/cuda "${PROJECT_SOURCE_DIR}/build/cuda/13"
        "${PROJECT_SOURCE_DIR}/build/cuda/12"
  PATH_SUFFIXES extras/CUPTI/include include)
find_path(OLLAMATRACE_CUDA_INCLUDE_DIR cuda.h
  HINTS "${OLLAMATRACE_CUPTI_INCLUDE_DIR}" "${OLLAMATRACE_CUPTI_INCLUDE_DIR}/../../../include")
if(OLLAMATRACE_CUPTI_INCLUDE_DIR AND OLLAMATRACE_CUDA_INCLUDE_DIR)
  set(OLLAMATRACE_CUPTI_INCLUDE_DIRS "${OLLAMATRACE_CUPTI_INCLUDE_DIR}" "${OLLAMATRACE_CUDA_INCLUDE_DIR}")
  list(REMOVE_DUPLICATES OLLAMATRACE_CUPTI_INCLUDE_DIRS)
endif()
