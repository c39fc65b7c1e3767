// bench/compare, with programs that stand in for wick and its peers.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "wick/apps/process.h"

namespace wick {
namespace {

using nlohmann::json;

class Compare : public testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/wick-compare-XXXXXX";
    folder_ = ::mkdtemp(path);
    std::ofstream(folder_ + "/model.gguf") << "GGUF";
    program("wick", "echo '{\"prefill_tok_s\": {\"median\": 300}, \"decode_tok_s\": {\"median\": 40}, \"read_gb_s\": 20, \"weight_bytes\": 250000000}'");
    program("llama-bench", "echo '[{\"n_prompt\": 16, \"n_gen\": 0, \"avg_ts\": 100}, {\"n_prompt\": 0, \"n_gen\": 4, \"avg_ts\": 32}]'");
    program("broken", "exit 1");
  }
  void TearDown() override { apps::run_process({"rm", "-r", folder_}); }

  void program(const std::string& name, const std::string& script) const {
    std::ofstream(folder_ + "/" + name) << "#!/bin/sh\n" << script << "\n";
    ::chmod((folder_ + "/" + name).c_str(), 0700);
  }

  apps::ProcessResult run(std::vector<std::string> arguments) const {
    std::vector<std::string> all = {"python3", WICK_SOURCE "/bench/compare", folder_ + "/model.gguf", "--wick", folder_ + "/wick", "-r", "3", "-p", "16", "-n", "4"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return apps::run_process(all);
  }

  std::string folder_;
};

TEST_F(Compare, DividesTheMedians) {
  const apps::ProcessResult result = run({"--peer", "other=" + folder_ + "/llama-bench", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.output;
  const json summary = json::parse(result.output);
  EXPECT_EQ(summary["turns"], 3);
  const json& engines = summary["engines"];
  ASSERT_GE(engines.size(), 2u);
  EXPECT_EQ(engines[0]["name"], "wick");
  EXPECT_DOUBLE_EQ(engines[0]["bandwidth_fraction"].get<double>(), 0.5);
  const json& other = engines[engines.size() - 1];
  EXPECT_EQ(other["name"], "other");
  EXPECT_DOUBLE_EQ(other["prefill_ratio"].get<double>(), 3);
  EXPECT_DOUBLE_EQ(other["decode_ratio"].get<double>(), 1.25);
}

TEST_F(Compare, EverybodyIsToldTheDevice) {
  const auto noting = [&](const char* name, const char* answer) { program(name, "echo $0 \"$@\" >> " + folder_ + "/calls; echo '" + answer + "'"); };
  noting("wick", "{\"prefill_tok_s\": {\"median\": 300}, \"decode_tok_s\": {\"median\": 40}, \"read_gb_s\": 20, \"weight_bytes\": 250000000}");
  noting("llama-bench", "[{\"n_prompt\": 16, \"n_gen\": 0, \"avg_ts\": 100}, {\"n_prompt\": 0, \"n_gen\": 4, \"avg_ts\": 32}]");
  const std::vector<std::string> peer = {"--peer", "other=" + folder_ + "/llama-bench", "--json"};
  const auto calls_with = [&](std::vector<std::string> arguments) {
    std::ofstream(folder_ + "/calls", std::ios::trunc);
    arguments.insert(arguments.end(), peer.begin(), peer.end());
    EXPECT_EQ(run(arguments).exit_code, 0);
    std::ifstream calls(folder_ + "/calls");
    return std::string(std::istreambuf_iterator<char>(calls), {});
  };
  const std::string on_cpu = calls_with({}), on_gpu = calls_with({"--device", "cuda:0"});
  EXPECT_NE(on_cpu.find("--device cpu"), std::string::npos) << on_cpu;
  EXPECT_NE(on_cpu.find("-ngl 0 "), std::string::npos) << on_cpu;
  EXPECT_NE(on_gpu.find("--device cuda:0"), std::string::npos) << on_gpu;
  EXPECT_NE(on_gpu.find("-ngl 999 "), std::string::npos) << on_gpu;
}

TEST_F(Compare, APeerThatFailsIsLeftOut) {
  const apps::ProcessResult result = run({"--peer", "bad=" + folder_ + "/broken", "--peer", "good=" + folder_ + "/llama-bench"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_NE(result.output.find("bad"), std::string::npos);
  EXPECT_NE(result.output.find("left out"), std::string::npos);
  EXPECT_NE(result.output.find("3.00 x"), std::string::npos) << result.output;
}

TEST_F(Compare, MisuseAndAWickThatFails) {
  EXPECT_EQ(run({"--peer", "nameless"}).exit_code, 1);
  EXPECT_EQ(run({"-r", "0"}).exit_code, 2);
  program("wick", "exit 1");
  EXPECT_EQ(run({"--peer", "other=" + folder_ + "/llama-bench"}).exit_code, 1);
  EXPECT_EQ(apps::run_process({"python3", WICK_SOURCE "/bench/compare", folder_ + "/none.gguf"}).exit_code, 2);
}

}  // namespace
}  // namespace wick
