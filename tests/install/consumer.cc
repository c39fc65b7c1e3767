// A program that knows wick only as an installed library.
#include <wick/wick.h>

#include <cstdio>

int main() {
  try {
    wick::Model::load("no-such-file.gguf");
  } catch (const wick::Error& error) {
    std::printf("%s: %s\n", wick::error_code_name(error.code()), error.what());
    return error.code() == wick::ErrorCode::kNotFound ? 0 : 1;
  }
  return 1;
}
