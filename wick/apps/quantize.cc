// wick quantize: a model file with its weights in another type.
#include <csignal>
#include <filesystem>

#include "wick/apps/cache.h"
#include "wick/apps/command.h"
#include "wick/apps/exit_code.h"
#include "wick/apps/interrupt.h"
#include "wick/apps/model_writer.h"
#include "wick/apps/terminal.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"
#include "wick/base/machine.h"
#include "wick/base/thread_pool.h"
#include "wick/formats/model_file.h"
#include "wick/kernels/block_format.h"
#include "wick/models/convert_rows.h"

namespace wick::apps {
namespace {

class QuantizeCommand : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("IN", in_, "Path of a .gguf file, or a name that `wick list` shows");
    flags.positional("OUT", out_, "The .gguf file to write; one that is there is replaced when the new one is complete");
    flags.choice("--type", "TYPE", recipe_names(), type_,
                 "Type of the weight matrices: q8_0 q4_0 q4_1 q5_0 q5_1 q4_k q5_k q6_k q4_k_m f16 bf16 f32");
    flags.threads(threads_);
    flags.group("Output");
    flags.toggle("--json", json_, "One JSON object: in, out, type, bytes, bytes_before, tensors, types, substitutes");
    flags.footer(
        "Norms and other vectors stay as they are, and so do matrices that have the type already. q4_k_m is q4_k with the output, and in half\n"
        "of the layers attn_v and ffn_down, in q6_k. Rows that are not whole blocks of a type get another: q5_0 for q4_k, q5_1 for q5_k, q8_0\n"
        "for q6_k, f16 for the rest. Weights that are NaN or infinite, or beyond what f16 can hold, are refused.");
  }

  int run(const Flags&) override {
    require(in_.has_value() && out_.has_value(), "usage: wick quantize IN OUT --type TYPE");
    require(type_.has_value(), "--type TYPE is missing: wick quantize --help lists them");
    const auto file = open_model_file(resolve_model(*in_));
    std::error_code not_there;
    require(!std::filesystem::equivalent(file->path(), *out_, not_there), "IN and OUT are the same file, '", shown(*out_, 300), "'");
    const InterruptScope interrupts({SIGINT, SIGTERM, SIGHUP}, /*once=*/false);
    ThreadPool pool(static_cast<int>(threads_.value_or(cpu_limits().threads())));
    ModelWriter writer(file->metadata(), find_recipe(*type_), layers_of(*file), file->find("output.weight") == nullptr);
    for (const TensorInfo& tensor : file->tensors()) add(*file, tensor, pool, writer);
    if (again_) say(LogLevel::kWarning, "the weights were quantised before: rounding them once more costs quality that the original does not lose");
    writer.save(*out_, "quantising");
    if (json_) {
      Json summary = writer.summary(*out_);
      summary["in"] = file->path();
      summary["bytes_before"] = file->file_bytes();
      print_json(summary);
    } else {
      write_output(writer.summary_text(*out_));
    }
    return kExitDone;
  }

 private:
  static int64_t layers_of(const ModelFile& file) {
    constexpr int64_t kMostLayers = 1 << 20;
    const std::string* architecture = file.metadata().find_string("general.architecture");
    return architecture ? file.metadata().find_integer(*architecture + ".block_count", 0, kMostLayers).value_or(0) : 0;
  }

  void add(const ModelFile& file, const TensorInfo& tensor, ThreadPool& pool, ModelWriter& writer) {
    const auto refuse = [&] { fail(ErrorCode::kUnsupported, "tensor '", shown(tensor.name), "' has type ", shown(tensor.type_name), ", which this version cannot read"); };
    if (!tensor.supported) refuse();
    const DType type = writer.choose(tensor.name, tensor.shape).value_or(tensor.dtype);
    if (type == tensor.dtype) {
      writer.add(tensor.name, tensor.shape, type, [&](uint64_t offset, std::span<std::byte> out) { file.read(tensor, offset, out); });
      return;
    }
    if (!has_codec(tensor.dtype)) refuse();
    again_ = again_ || (is_quantised(tensor.dtype) && is_quantised(type));
    writer.add(tensor.name, tensor.shape, type, [&file, &tensor, &pool, type](uint64_t offset, std::span<std::byte> out) {
      const uint64_t bytes = row_bytes(type, tensor.shape);
      pool.parallel_for(static_cast<int64_t>(out.size() / bytes), 1, [&](int64_t begin, int64_t end, int) {
        const auto rows = out.subspan(static_cast<size_t>(begin) * bytes, static_cast<size_t>(end - begin) * bytes);
        read_rows_as(file, tensor, type, offset / bytes + static_cast<uint64_t>(begin), rows);
      });
    });
  }

  std::optional<std::string> in_, out_, type_;
  std::optional<int64_t> threads_;
  bool json_ = false;
  bool again_ = false;
};

}  // namespace

std::unique_ptr<Command> make_quantize() { return std::make_unique<QuantizeCommand>(); }

}  // namespace wick::apps
