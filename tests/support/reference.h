// The reference outputs of the default model, and the model itself where there is one.
#pragma once

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace wick::test {

struct ReferencePrompt {
  std::string prompt;
  std::vector<int32_t> prompt_ids;
  std::vector<int32_t> greedy_ids;
  std::vector<double> greedy_margin;
  std::vector<double> prompt_nll;
};

inline std::vector<ReferencePrompt> reference_prompts() {
  std::ifstream in(std::string(WICK_TEST_DATA) + "/smollm2-135m/greedy.json");
  std::vector<ReferencePrompt> prompts;
  for (const auto& row : nlohmann::json::parse(in)) {
    prompts.push_back({row["prompt"], row["prompt_ids"], row["greedy_ids"], row["greedy_margin"], row["prompt_nll"]});
  }
  return prompts;
}

// [8, 49152]; the header of this file is 128 bytes.
inline std::vector<float> reference_last_logits() {
  std::ifstream in(std::string(WICK_TEST_DATA) + "/smollm2-135m/last_logits_f32.npy", std::ios::binary);
  in.seekg(128);
  std::vector<float> logits(8 * 49152);
  in.read(reinterpret_cast<char*>(logits.data()), static_cast<std::streamsize>(logits.size() * sizeof(float)));
  return in ? logits : std::vector<float>();
}

// The default model's file, empty when this machine has none.
inline std::string default_model_path() {
  const char* path = std::getenv("WICK_TEST_MODEL");
  return path ? path : "";
}

}  // namespace wick::test
