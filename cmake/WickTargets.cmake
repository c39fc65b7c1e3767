# How every folder of wick is compiled: one object library per folder, joined into the one library that programs link.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# A shared library shows the names of namespace wick and nothing else: cmake/wick.map.
if(NOT BUILD_SHARED_LIBS)
  set(CMAKE_CXX_VISIBILITY_PRESET hidden)
  set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
endif()
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
find_package(Threads REQUIRED)
if(WICK_STATIC_BINARY)
  set(CMAKE_FIND_LIBRARY_SUFFIXES .a)
  set(OPENSSL_USE_STATIC_LIBS ON)
endif()

add_library(wick_options INTERFACE)
# -ffp-contract=off: a product and a sum are fused only where the code says so, or results would depend on the compiler's mood.
target_compile_options(wick_options INTERFACE "$<$<NOT:$<COMPILE_LANGUAGE:CUDA>>:-Wall;-Wextra;-Wshadow;-Wconversion;-Wno-sign-conversion;-ffp-contract=off;-fno-math-errno>")
target_include_directories(wick_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(wick_options INTERFACE Threads::Threads)
if(WICK_SANITIZE)
  string(APPEND CMAKE_CXX_FLAGS " -fsanitize=${WICK_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all")
  if(WICK_SANITIZE STREQUAL "address,undefined")  # the first sees what these would, and they are the dearest
    string(APPEND CMAKE_CXX_FLAGS " -fno-sanitize=null,object-size,vptr")
  endif()
  target_link_options(wick_options INTERFACE -fsanitize=${WICK_SANITIZE})
endif()
if(WICK_CUDA)
  include(WickCuda)
endif()

# wick_folder(NAME SOURCES file… [LINKS library…]): the object library wick_NAME of the folder wick/NAME.
function(wick_folder name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINKS" ${ARGN})
  add_library(wick_${name} OBJECT ${arg_SOURCES})
  target_link_libraries(wick_${name} PUBLIC wick_options ${arg_LINKS})
  set_property(GLOBAL APPEND PROPERTY WICK_FOLDERS wick_${name})
endfunction()

# wick_test(NAME SOURCES file… [LINKS library…]): one GoogleTest program; each of its cases is a ctest of its own.
function(wick_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name}_test ${arg_SOURCES})
  target_link_libraries(${name}_test PRIVATE wick::wick wick_options ${arg_LINKS} GTest::gtest GTest::gmock GTest::gtest_main)
  if(WICK_SANITIZE MATCHES "undefined")  # watched in what is tested: in the tests themselves it would be most of the build
    target_compile_options(${name}_test PRIVATE -fno-sanitize=undefined -O0)
  endif()
  target_compile_definitions(${name}_test PRIVATE WICK_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data")
  gtest_discover_tests(${name}_test TEST_PREFIX "${name}." DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 600)
endfunction()
