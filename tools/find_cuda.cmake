# Decides whether CUDA code is compiled, and for which GPUs. Included by CMakeLists.txt before its project().
#
#   in    SIEVE_CUDA                AUTO: when this machine has a GPU that can run it | ON | OFF
#         CMAKE_CUDA_ARCHITECTURES  the architectures that were asked for, if any
#   out   SIEVE_BUILD_CUDA          whether
#         CMAKE_CUDA_ARCHITECTURES  those asked for, else this machine's GPUs, else the default
#         SIEVE_NVCC                the compiler, when there is one
#         SIEVE_CUDA_SAYS           one line for people: for what it is built, or why it is not and how to get it
set(SIEVE_CUDA AUTO CACHE STRING "build the CUDA kernels: AUTO (when there is a GPU), ON or OFF")
find_program(SIEVE_NVCC nvcc HINTS /usr/local/cuda/bin ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin)
set(default_architectures "80-real;90")
set(oldest_capability 80)  # cp.async and bfloat16 mma
if(NOT DEFINED SIEVE_GPU_FILES)
  set(SIEVE_GPU_FILES /dev/nvidia[0-9]*)  # as the driver makes them
endif()

# The compute capabilities of this machine's GPUs, ascending ("80;90"); "unknown" when there is a GPU but nothing says
# which; empty when there is none.
function(find_gpus result)
  set(gpus "")
  file(GLOB files ${SIEVE_GPU_FILES})
  if(files)
    set(gpus unknown)
  endif()
  find_program(nvidia_smi nvidia-smi NO_CACHE)
  if(nvidia_smi)
    execute_process(COMMAND ${nvidia_smi} --query-gpu=compute_cap --format=csv,noheader
      OUTPUT_VARIABLE answer ERROR_QUIET RESULT_VARIABLE status)
    string(REGEX MATCHALL "[0-9]+\\.[0-9]+" capabilities "${answer}")
    if(status EQUAL 0 AND capabilities)
      string(REPLACE "." "" gpus "${capabilities}")
      list(REMOVE_DUPLICATES gpus)
      list(SORT gpus COMPARE NATURAL)
    endif()
  endif()
  set(${result} "${gpus}" PARENT_SCOPE)
endfunction()

# What to compile for, and why. Code for a GPU that nvcc does not know yet is compiled by its driver, from the PTX of
# the default's last architecture.
function(choose_architectures gpus)
  if(CMAKE_CUDA_ARCHITECTURES)
    set(SIEVE_CUDA_WHY "as asked" PARENT_SCOPE)
    return()
  endif()
  set(CMAKE_CUDA_ARCHITECTURES "${default_architectures}" PARENT_SCOPE)
  set(SIEVE_CUDA_WHY "the default" PARENT_SCOPE)
  if(gpus STREQUAL unknown)
    set(SIEVE_CUDA_WHY "the default, as nvidia-smi does not say which GPU is here" PARENT_SCOPE)
  elseif(gpus)
    execute_process(COMMAND ${SIEVE_NVCC} --list-gpu-arch OUTPUT_VARIABLE known ERROR_QUIET)
    set(architectures "")
    foreach(gpu ${gpus})
      if(gpu LESS oldest_capability OR NOT known MATCHES "compute_${gpu}\n")
        set(SIEVE_CUDA_WHY "the default, as this GPU's ${gpu} is unknown to nvcc or too old" PARENT_SCOPE)
        return()
      endif()
      list(APPEND architectures ${gpu}-real)
    endforeach()
    set(CMAKE_CUDA_ARCHITECTURES "${architectures}" PARENT_SCOPE)
    set(SIEVE_CUDA_WHY "this machine's GPU" PARENT_SCOPE)
  endif()
endfunction()

set(how_to_get "make CUDA=1")
if(NOT SIEVE_NVCC)
  set(how_to_get "install the CUDA toolkit (12.4 or newer), then make CUDA=1")
endif()
find_gpus(gpus)
set(newest "")
if(gpus)
  list(GET gpus -1 newest)
endif()

set(why_not "")
if(NOT SIEVE_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "SIEVE_CUDA is ${SIEVE_CUDA}; want AUTO, ON or OFF")
elseif(SIEVE_CUDA STREQUAL OFF)
  set(why_not "left out, as asked")
elseif(SIEVE_CUDA STREQUAL ON AND NOT SIEVE_NVCC)
  message(FATAL_ERROR "CUDA was asked for, and there is no nvcc in PATH, CUDA_HOME/bin or /usr/local/cuda/bin")
elseif(SIEVE_CUDA STREQUAL AUTO AND NOT gpus)
  set(why_not "left out, no GPU here")
elseif(SIEVE_CUDA STREQUAL AUTO AND NOT SIEVE_NVCC)
  set(why_not "left out, there is a GPU but no nvcc")
elseif(SIEVE_CUDA STREQUAL AUTO AND newest LESS oldest_capability)
  set(why_not "left out, the kernels need compute capability ${oldest_capability} and this GPU has ${newest}")
endif()
if(why_not)
  set(SIEVE_BUILD_CUDA OFF)
  set(SIEVE_CUDA_SAYS "${why_not} (to have it: ${how_to_get})")
else()
  set(SIEVE_BUILD_CUDA ON)
  choose_architectures("${gpus}")
  string(REPLACE ";" " " architectures "${CMAKE_CUDA_ARCHITECTURES}")
  set(SIEVE_CUDA_SAYS "for ${architectures} (${SIEVE_CUDA_WHY}), ${SIEVE_NVCC}")
endif()

if(CMAKE_SCRIPT_MODE_FILE)  # cmake -P, as tests/find_cuda.sh runs it
  message("${SIEVE_CUDA_SAYS}")
endif()
