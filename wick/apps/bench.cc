// wick bench: how fast a model reads a prompt and writes an answer here, and how much of the memory bandwidth that uses.
#include <algorithm>
#include <chrono>
#include <limits>

#include "wick/apps/bandwidth.h"
#include "wick/apps/command.h"
#include "wick/apps/exit_code.h"
#include "wick/apps/generate.h"
#include "wick/apps/interrupt.h"
#include "wick/apps/json_output.h"
#include "wick/apps/model_flags.h"
#include "wick/apps/terminal.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"
#include "wick/base/machine.h"
#include "wick/base/splitmix.h"

namespace wick::apps {
namespace {

// The same "text" in every run: ids from a fixed sequence of random numbers (splitmix64).
std::vector<int32_t> fixed_ids(int64_t count, int32_t vocab, uint64_t stream) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  const uint64_t seed = stream * 0x632be59bd9b4e019u;
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(splitmix(seed, i) % static_cast<uint64_t>(vocab));
  return ids;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Json summary_json(const std::vector<double>& values) {
  if (values.empty()) return nullptr;
  return {{"median", median(values)}, {"min", *std::min_element(values.begin(), values.end())}, {"max", *std::max_element(values.begin(), values.end())}};
}

std::string summary_line(const std::string& label, const std::vector<double>& values) {
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  std::string text = label + std::string(label.size() < 20 ? 20 - label.size() : 1, ' ');
  return text + format_fixed(median(values), 1) + " tok/s  (" + format_fixed(*least, 1) + " to " + format_fixed(*most, 1) + ")\n";
}

class BenchCommand : public Command {
 public:
  void declare(Flags& flags) override {
    constexpr int64_t kMostTokens = int64_t{1} << 24;
    flags.positional("MODEL", positional_, "As --model");
    model_.declare(flags);
    flags.group("Measurement");
    flags.integer("-p,--prompt-tokens", "N", 0, kMostTokens, prompt_flag_, "Tokens of the prompt; default 512; 0: leave prefill out");
    flags.integer("-n,--gen-tokens", "N", 0, kMostTokens, generate_flag_, "Tokens to generate; default 128; 0: leave decode out");
    flags.integer("-d,--depth", "N", 0, kMostTokens, depth_flag_, "Tokens already in the context before decoding, with made-up keys and values; default 0");
    flags.integer("--sequences", "N", 1, 4096, sequences_flag_, "Requests decoded together; default 1");
    flags.number("--temperature,--temp", "T", 0, 100, temperature_flag_,
                 "Tokens are chosen at this temperature, with top-p 0.95; default 0: the most likely");
    flags.integer("-r,--repetitions", "N", 1, 1000, repetitions_flag_, "Repetitions after one warm-up; default 5");
    flags.group("Output");
    flags.toggle("--json", json_, "One JSON object");
    flags.footer(
        "Decode counts the tokens after the first, of all sequences together. read_gb_s is the median speed of reading a buffer of 1 GiB\n"
        "on the same device, with the same threads, between the repetitions. decode_bandwidth_fraction is (weight_bytes + cache_bytes) x\n"
        "steps per second / read_gb_s; cache_bytes are the keys and values that a step reads on average.");
  }

  int run(const Flags& flags) override {
    read_flags();
    const InterruptScope interrupts;
    EngineOptions options = model_.engine_options();
    options.max_sequences = static_cast<int32_t>(sequences_);
    if (options.context == 0) options.context = std::max(prompt_ + 1, generate_ > 0 ? depth_ + generate_ + 2 : 1);
    const auto start = std::chrono::steady_clock::now();
    const std::shared_ptr<const Model> model = model_.load(model_.choose(flags, positional_), options);
    Engine engine(model, options);
    load_ms_ = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    cache_bytes_ = engine.kv_bytes_per_position() * static_cast<double>(sequences_) * (static_cast<double>(depth_) + static_cast<double>(generate_ + 3) / 2);
    measure(engine, threads_of(*model));
    if (json_) {
      print_json(result_json(*model));
    } else {
      write_output(result_text(*model));
    }
    return kExitDone;
  }

 private:
  void read_flags() {
    prompt_ = prompt_flag_.value_or(512);
    generate_ = generate_flag_.value_or(128);
    depth_ = depth_flag_.value_or(0);
    sequences_ = sequences_flag_.value_or(1);
    repetitions_ = repetitions_flag_.value_or(5);
    temperature_ = temperature_flag_.value_or(0);
    require(prompt_ > 0 || generate_ > 0, "-p 0 and -n 0 leave nothing to measure");
  }

  static int threads_of(const Model& model) { return model.options().threads > 0 ? model.options().threads : cpu_limits().threads(); }

  void measure(Engine& engine, int threads) {
    ProgressBar bar("measuring");
    if (prompt_ > 0) prefill(engine);
    if (generate_ > 0) decode(engine);
    peak_rss_ = peak_rss_bytes();  // before the buffer below, which is not the model's
    const Device& device = engine.model().options().device;
    peak_device_ = device.memory().peak;
    ReadBandwidth bandwidth(device, threads);
    bandwidth_bytes_ = bandwidth.bytes();
    for (int64_t i = 0; i < repetitions_; ++i) {
      bar.update(static_cast<uint64_t>(i), static_cast<uint64_t>(repetitions_));
      if (prompt_ > 0) prefill_rates_.push_back(prefill(engine));
      if (generate_ > 0) decode_rates_.push_back(decode(engine));
      bandwidth_.push_back(std::max(bandwidth.measure(), bandwidth.measure()));
    }
  }

  Request request_for(std::vector<int32_t> ids, int64_t max_tokens) const {
    Request request;
    request.prompt_ids = std::move(ids);
    request.max_tokens = max_tokens;
    request.sampling = SamplingParams{};
    request.sampling.temperature = static_cast<float>(temperature_);
    request.sampling.seed = 0;
    request.ignore_eos = true;
    return request;
  }

  // Tokens per second of reading the prompt, up to the logits of its last token.
  double prefill(Engine& engine) const {
    Stream stream = engine.submit(request_for(fixed_ids(prompt_, engine.model().vocab_size(), 0), 1));
    finish(stream);
    return static_cast<double>(prompt_) * 1e3 / stream.usage().prompt_ms;
  }

  // Tokens per second of all sequences after their first token.
  double decode(Engine& engine) const {
    std::vector<Request> requests;
    for (int64_t i = 0; i < sequences_; ++i) {
      const auto stream = static_cast<uint64_t>(i + 1);
      Request request = request_for(fixed_ids(depth_ + 1, engine.model().vocab_size(), stream), generate_ + 1);
      request.made_up_prompt = depth_;
      requests.push_back(std::move(request));
    }
    std::vector<Stream> streams = engine.submit_all(std::move(requests));  // together: making up a context must not count for those before
    double slowest_ms = 0;
    for (Stream& stream : streams) {
      finish(stream);
      slowest_ms = std::max(slowest_ms, stream.usage().generation_ms);
    }
    return static_cast<double>(generate_ * sequences_) * 1e3 / slowest_ms;
  }

  static void finish(Stream& stream) {
    constexpr std::chrono::milliseconds kSignalCheck(100);
    while (!stream.done()) {
      stream.next(kSignalCheck);
      if (interrupted()) fail(ErrorCode::kCancelled, "interrupted");
    }
  }

  double bandwidth_fraction(const Model& model) const {
    const double steps_per_second = median(decode_rates_) / static_cast<double>(sequences_);
    return (static_cast<double>(model.weight_bytes_per_token()) + cache_bytes_) * steps_per_second / (median(bandwidth_) * 1e9);
  }

  Json result_json(const Model& model) const {
    return {{"model", model.name()},
            {"cpu", cpu_model_name()},
            {"device", model.options().device.name()},
            {"device_description", model.options().device.description()},
            {"isa", isa_name(model.options().isa)},
            {"threads", threads_of(model)},
            {"exact", model.options().exact},
            {"batch_invariant", model_.engine_options().batch_invariant},
            {"type", model.options().weight_type.empty() ? Json(nullptr) : Json(model.options().weight_type)},
            {"kv_type", model_.kv_type_name()},
            {"prompt_tokens", prompt_},
            {"gen_tokens", generate_},
            {"depth", depth_},
            {"sequences", sequences_},
            {"temperature", temperature_},
            {"repetitions", repetitions_},
            {"prefill_tok_s", summary_json(prefill_rates_)},
            {"decode_tok_s", summary_json(decode_rates_)},
            {"weight_bytes", model.weight_bytes_per_token()},
            {"cache_bytes", generate_ > 0 ? Json(static_cast<uint64_t>(cache_bytes_)) : Json(nullptr)},
            {"read_gb_s", median(bandwidth_)},
            {"read_buffer_bytes", bandwidth_bytes_},
            {"decode_bandwidth_fraction", generate_ > 0 ? Json(bandwidth_fraction(model)) : Json(nullptr)},
            {"timings", {{"load_ms", load_ms_}, {"weights_ms", model.weights_ms()}}},
            {"peak_rss_bytes", peak_rss_},
            {"peak_device_bytes", peak_device_ > 0 ? Json(peak_device_) : Json(nullptr)}};
  }

  std::string result_text(const Model& model) const {
    const Device& device = model.options().device;
    std::string text = concat(shown(model.name()), "; ", device.description(), ", ", device.is_cpu() ? isa_name(model.options().isa) : device.name(), ", ",
                              threads_of(model), " threads", model.options().exact ? ", exact" : "",
                              model_.engine_options().batch_invariant ? ", batch invariant" : "", "\n\n");
    if (prompt_ > 0) text += summary_line(concat("prefill ", prompt_), prefill_rates_);
    if (generate_ > 0) {
      text += summary_line(concat("decode ", generate_, sequences_ > 1 ? concat(" x ", sequences_) : "", depth_ > 0 ? concat(" at ", depth_) : ""), decode_rates_);
    }
    text += "memory reads        " + format_fixed(median(bandwidth_), 1) + " GB/s";
    if (bandwidth_bytes_ < ReadBandwidth::kWantedBytes) text += ", over only " + format_bytes(bandwidth_bytes_) + " for want of memory";
    text += "\n";
    if (generate_ > 0) {
      text += concat("weights, cache      ", format_bytes(model.weight_bytes_per_token()), ", ", format_bytes(static_cast<uint64_t>(cache_bytes_)), " a step: ",
                     format_fixed(bandwidth_fraction(model) * 100, 0), " % of the bandwidth\n");
    }
    text += "load                " + format_fixed(load_ms_, 0) + " ms, of it weights " + format_fixed(model.weights_ms(), 0) + " ms\n";
    if (peak_device_ > 0) text += "peak device memory  " + format_bytes(peak_device_) + "\n";
    return text + "peak memory         " + format_bytes(peak_rss_) + "\n";
  }

  std::optional<std::string> positional_;
  std::optional<int64_t> prompt_flag_, generate_flag_, depth_flag_, sequences_flag_, repetitions_flag_;
  std::optional<double> temperature_flag_;
  ModelFlags model_;
  bool json_ = false;
  int64_t prompt_ = 0, generate_ = 0, depth_ = 0, sequences_ = 1, repetitions_ = 0;
  double temperature_ = 0;
  std::vector<double> prefill_rates_, decode_rates_, bandwidth_;
  uint64_t bandwidth_bytes_ = 0, peak_rss_ = 0, peak_device_ = 0;
  double load_ms_ = 0;
  double cache_bytes_ = 0;  // that a decode step reads, on average
};

}  // namespace

std::unique_ptr<Command> make_bench() { return std::make_unique<BenchCommand>(); }

}  // namespace wick::apps
