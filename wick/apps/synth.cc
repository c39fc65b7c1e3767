// wick synth: a model of a known shape with random weights.
#include <csignal>
#include <cstring>

#include "wick/apps/command.h"
#include "wick/apps/exit_code.h"
#include "wick/apps/interrupt.h"
#include "wick/apps/model_writer.h"
#include "wick/apps/random_weights.h"
#include "wick/apps/synth_model.h"
#include "wick/apps/terminal.h"
#include "wick/base/error.h"
#include "wick/base/machine.h"
#include "wick/base/thread_pool.h"

namespace wick::apps {
namespace {

class SynthCommand : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("SHAPE", shape_, "llama-3.2-1b, llama-3.1-8b, smollm2-135m or tiny");
    flags.positional("OUT", out_, "The .gguf file to write; one that is there is replaced when the new one is complete");
    flags.choice("--type", "TYPE", recipe_names(), type_,
                 "Type of the weight matrices: q8_0 q4_0 q4_1 q5_0 q5_1 q4_k q5_k q6_k q4_k_m (default) f16 bf16 f32");
    flags.threads(threads_);
    flags.group("Output");
    flags.toggle("--json", json_, "One JSON object: shape, out, type, bytes, tensors, types, substitutes");
    flags.footer(
        "The same shape and type give the same file everywhere. Weights are normal, scaled so that activations and logits stay in range, and\n"
        "drawn block by block from 4096 that were encoded: the model says nothing, but runs like a real one. The vocabulary is made up too.");
  }

  int run(const Flags&) override {
    require(shape_.has_value() && out_.has_value(), "usage: wick synth SHAPE OUT [--type TYPE]; shapes: ", shape_names());
    const SynthShape& shape = find_shape(*shape_);
    const InterruptScope interrupts({SIGINT, SIGTERM, SIGHUP}, /*once=*/false);
    ThreadPool pool(static_cast<int>(threads_.value_or(cpu_limits().threads())));
    RandomWeights weights(pool);
    ModelWriter writer(synth_metadata(shape), find_recipe(type_.value_or("q4_k_m")), shape.layers, shape.tied);
    const std::vector<SynthTensor> tensors = synth_tensors(shape);
    for (const SynthTensor& tensor : tensors) {
      const DType type = writer.choose(tensor.name, tensor.shape).value_or(DType::kF32);
      writer.add(tensor.name, tensor.shape, type, [&weights, &tensor, type](uint64_t offset, std::span<std::byte> out) {
        if (tensor.values.empty()) {
          weights.fill(tensor.name, type, tensor.shape[1], static_cast<float>(tensor.spread), offset, out);
        } else {
          std::memcpy(out.data(), reinterpret_cast<const std::byte*>(tensor.values.data()) + offset, out.size());
        }
      });
    }
    writer.save(*out_, "writing");
    if (json_) {
      Json summary = writer.summary(*out_);
      summary["shape"] = shape.name;
      print_json(summary);
    } else {
      write_output(writer.summary_text(*out_));
    }
    return kExitDone;
  }

 private:
  std::optional<std::string> shape_, out_, type_;
  std::optional<int64_t> threads_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_synth() { return std::make_unique<SynthCommand>(); }

}  // namespace wick::apps
