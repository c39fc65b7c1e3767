# The CUDA backend: its language, the GPUs it is compiled for, and the runtime, which is linked statically and opens the driver when it is first
# used, so that a program with it starts on machines without a GPU.
set(WICK_CUDA_ARCHITECTURES 80-real 86-real 89-real 90a-real 100-real 120-real 120-virtual)  # Ampere to Blackwell; the last for what comes after
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES ${WICK_CUDA_ARCHITECTURES} CACHE STRING "GPUs to compile for, as CMake writes them")
endif()
if(NOT DEFINED CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  find_program(WICK_NVCC nvcc PATHS /usr/local/cuda/bin)
  if(WICK_NVCC)
    set(CMAKE_CUDA_COMPILER ${WICK_NVCC})
  endif()
endif()
if(NOT DEFINED CMAKE_CUDA_HOST_COMPILER)
  set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
endif()
if(CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # older CMake does not know that nvcc has it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_STANDARD 20)
set(suffixes ${CMAKE_FIND_LIBRARY_SUFFIXES})
set(CMAKE_FIND_LIBRARY_SUFFIXES .so .a)  # the package wants to see the shared runtime, too, when only static libraries are linked
find_package(CUDAToolkit REQUIRED)
set(CMAKE_FIND_LIBRARY_SUFFIXES ${suffixes})
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
target_compile_definitions(wick_options INTERFACE WICK_CUDA)
if(CMAKE_CUDA_ARCHITECTURES MATCHES "90a")  # Hopper's own instructions are in the binary
  target_compile_definitions(wick_options INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:WICK_SM90A>")
endif()
# As for C++: a product and a sum are fused only where the code says so.
target_compile_options(wick_options INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:-fmad=false;-Xcompiler=-Wall,-Wextra;--expt-relaxed-constexpr>")
