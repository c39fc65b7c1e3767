// wick bench-ops: each op against its reference kernel, the way it is put together from elementary steps, and PyTorch, in one run.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <sstream>

#include "bench/kv_cache_bench.h"
#include "bench/op_case.h"
#include "bench/op_timing.h"
#include "torch_ops.h"
#include "wick/apps/command.h"
#include "wick/apps/exit_code.h"
#include "wick/apps/interrupt.h"
#include "wick/apps/json_output.h"
#include "wick/apps/process.h"
#include "wick/apps/terminal.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"
#include "wick/base/machine.h"
#include "wick/tensor/tensor.h"

namespace wick::bench {
namespace {

using apps::Json;

constexpr int64_t kCacheTokens = 16384;
constexpr uint64_t kColdBytes = uint64_t{192} << 20;     // more than caches hold
constexpr uint64_t kLeastColdBytes = uint64_t{2} << 20;  // of one call: below it, starting the threads counts for more than the memory
constexpr const char* kCacheOp = "kv_cache";

// The Python program, when Python has torch.
class Torch {
 public:
  Torch(const std::string& python, int threads, const Device& device) : process_({python, "-c", kTorchOps, std::to_string(threads), device.name()}, true) {}

  // The contenders for a case; they stay valid until the next call. What PyTorch cannot do is left out.
  std::vector<Contender> prepare(const std::string& op, DType type, const Json& shape, bool compile) {
    std::vector<Contender> contenders;
    if (ended_) return contenders;
    Json answer;
    try {
      answer = ask({{"op", op}, {"dtype", dtype_name(type)}, {"shape", shape}, {"compile", compile}});
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kCancelled) throw;
      apps::say(LogLevel::kWarning, "PyTorch, " + op + ": " + error.what() + "; going on without PyTorch");
      ended_ = true;
      return contenders;
    }
    for (const Json& way : answer.value("ways", Json::array())) {
      const std::string name = way.get<std::string>();
      contenders.push_back({name, [this, name](int64_t warm_up, int64_t calls) { return ask({{"way", name}, {"warm_up", warm_up}, {"calls", calls}}).value("seconds", 0.0); }, 1, {}});
    }
    if (answer.contains("error")) apps::say(LogLevel::kWarning, "PyTorch, " + op + ": " + answer["error"].get<std::string>());
    return contenders;
  }

 private:
  Json ask(const Json& question) { return apps::parse_json(process_.ask(question.dump()), 4, "the PyTorch program"); }

  apps::LineProcess process_;
  bool ended_ = false;
};

std::unique_ptr<Torch> start_torch(const std::string& python, int threads, const Device& device) {
  try {
    if (apps::run_process({python, "-c", "import torch"}).exit_code == 0) return std::make_unique<Torch>(python, threads, device);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kCancelled) throw;
  }
  return nullptr;
}

// A copy that reads and writes as many bytes as the op.
struct Copy {
  Tensor from, to;

  Copy(const Device& device, uint64_t bytes)
      : from(Tensor::zeros({static_cast<int64_t>(bytes / 2)}, DType::kU8, device)), to(Tensor::zeros(from.shape(), DType::kU8, device)) {}

  void run(Context& ctx, int64_t piece) const {
    const int64_t size = from.elements();
    if (ctx.stream()) return ctx.copy(to.raw(), from.raw(), from.bytes());
    ctx.pool().parallel_for((size + piece - 1) / piece, 1, [&](int64_t begin, int64_t end, int) {
      std::memcpy(to.raw() + begin * piece, from.raw() + begin * piece, static_cast<size_t>(std::min(size, end * piece) - begin * piece));
    });
  }
};

// Memory that nothing has written yet costs its first writer a page fault: each set is run once before any is timed.
void add_turns(Context& ctx, const char* name, std::vector<std::function<void()>> sets, std::vector<Contender>& contenders) {
  for (const auto& run : sets) run();
  contenders.push_back(timed(ctx, name, [sets = std::move(sets), next = size_t{0}]() mutable { sets[next++ % sets.size()](); }));
}

// In one piece per thread, and in small ones; whichever is faster counts.
void add_copies(Context& ctx, const char* name, uint64_t bytes, int64_t sets, std::vector<Contender>& contenders) {
  constexpr int64_t kSmallPiece = int64_t{1} << 17;
  const int64_t whole = std::max<int64_t>(1, (static_cast<int64_t>(bytes / 2) + ctx.threads() - 1) / ctx.threads());
  const auto copies = std::make_shared<std::vector<Copy>>();
  for (int64_t i = 0; i < sets; ++i) copies->emplace_back(ctx.device(), bytes);
  for (const int64_t piece : {kSmallPiece, whole}) {
    std::vector<std::function<void()>> ways;
    for (int64_t i = 0; i < sets; ++i) ways.push_back([=, &ctx] { (*copies)[static_cast<size_t>(i)].run(ctx, piece); });
    add_turns(ctx, name, std::move(ways), contenders);
  }
}

// Calls that find nothing of their tensors in a cache: `sets` of them take turns.
void add_cold(Context& ctx, const OpCase& op_case, const OpSetup& setup, DType type, int64_t tokens, int64_t sets, std::vector<Contender>& contenders) {
  std::vector<std::function<void()>> ways;
  for (int64_t i = 0; i < sets; ++i) ways.push_back(setup.elsewhere ? setup.elsewhere(i) : op_case.make(ctx, type, tokens).wick.run);
  add_turns(ctx, "cold", std::move(ways), contenders);
}

struct OpResult {
  std::string op;
  DType type = DType::kF32;
  int64_t tokens = 0;
  Json shape;
  uint64_t bytes = 0;
  double operations = 0;
  std::vector<std::pair<std::string, double>> seconds;  // medians

  std::optional<double> of(const std::string& name) const {
    std::optional<double> least;
    for (const auto& [each, value] : seconds) {
      if (each == name) least = std::min(least.value_or(value), value);
    }
    return least;
  }
};

const char* const kRatios[] = {"twin", "naive", "eager", "compiled"};

class BenchOpsCommand : public apps::Command {
 public:
  void declare(apps::Flags& flags) override {
    flags.group("What to measure");
    flags.texts("--op", "NAME", ops_, "Only this op; may be repeated");
    flags.texts("--dtype", "TYPE", dtypes_, "Only f32, f16 or bf16; may be repeated");
    flags.custom("--tokens", "T", [this](const std::string& text) { tokens_.push_back(apps::parse_integer(text, 1, 1 << 16)); },
                 "Only this many tokens; may be repeated. Default 1, 32, 512, 4096", true);
    flags.integer("-r,--repetitions", "N", 1, 1000, repetitions_, "Rounds in which the ways take turns; default 7");
    flags.text("--device", "DEVICE", device_, "Where to run: cpu (default), cuda, cuda:N. Not the CPU: timed by the device's own clock");
    flags.integer("-t,--threads", "N", 1, 4096, threads_, "Threads of wick and of PyTorch; default: what this machine allows");
    flags.group("PyTorch");
    flags.text("--python", "PATH", python_, "The Python whose PyTorch is measured, if it has one; default python3");
    flags.toggle("--no-torch", no_torch_, "Leave PyTorch out");
    flags.toggle("--no-compile", no_compile_, "Leave torch.compile out, which takes seconds per case");
    flags.group("Output");
    flags.toggle("--json", json_, "One JSON object");
    flags.footer(
        "Times are medians of one call into a given output; the other columns say how many times longer a way takes: twin, wick's reference\n"
        "kernel in f64 on one thread; naive, elementary steps, on a GPU those of PyTorch; eager and compiled, PyTorch on as many threads.\n"
        "Ops that move memory show their bandwidth and its share of a copy that moves the same bytes in the same round: as it comes, mostly from caches, and cold, in GB/s,\n"
        "with tensors that are in no cache. The others show their operations per second.");
  }

  int run(const apps::Flags&) override {
    check_names();
    const apps::InterruptScope interrupts;
    const int threads = static_cast<int>(threads_.value_or(cpu_limits().threads()));
    Context ctx(device_ ? Device::parse(*device_) : Device::cpu(), {.threads = threads});
    std::unique_ptr<Torch> torch;
    if (!no_torch_) torch = start_torch(python_.value_or("python3"), threads, ctx.device());
    if (!json_) print_header(ctx, torch != nullptr);
    Json rows = Json::array();
    apps::ProgressBar bar("measuring");  // the lines of the table show how far it is, without them a bar does
    for (const OpCase& each : op_cases()) {
      if (json_) bar.update(static_cast<uint64_t>(&each - op_cases().data()), op_cases().size());
      if (wanted(ops_, each.op)) run_case(ctx, torch.get(), each, rows);
    }
    bar.finish();
    Json result = {{"cpu", cpu_model_name()}, {"device", ctx.device().name()}, {"isa", isa_name(ctx.isa())}, {"threads", threads}, {"torch", torch != nullptr}, {"rows", rows}};
    if (wanted(ops_, kCacheOp) && ctx.device().is_cpu()) result["kv_cache"] = cache_result(ctx);
    if (json_) apps::print_json(result);
    return apps::kExitDone;
  }

 private:
  static bool wanted(const std::vector<std::string>& names, const std::string& name) {
    return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
  }

  void check_names() const {
    for (const std::string& op : ops_) {
      bool known = op == kCacheOp;
      std::string all = kCacheOp;
      for (const OpCase& each : op_cases()) {
        known = known || op == each.op;
        all += std::string(", ") + each.op;
      }
      require(known, "--op: unknown op '", apps::shown(op), "'; there are ", all);
    }
    for (const std::string& type : dtypes_) {
      require(type == "f32" || type == "f16" || type == "bf16", "--dtype: '", apps::shown(type), "', expected f32, f16 or bf16");
    }
  }

  void run_case(Context& ctx, Torch* torch, const OpCase& op_case, Json& rows) {
    static const std::vector<int64_t> kTokens = {1, 32, 512, 4096};
    for (const DType type : op_case.dtypes) {
      if (!wanted(dtypes_, dtype_name(type))) continue;
      for (const int64_t tokens : tokens_.empty() ? kTokens : tokens_) {
        if (!ctx.device().is_cpu() && op_case.op == std::string("layer")) continue;  // no op adds two tensors there
        const OpResult result = measure_one(ctx, torch, op_case, type, tokens);
        rows.push_back(result_json(result));
        if (!json_) apps::write_output(result_line(result));
      }
    }
  }

  OpResult measure_one(Context& ctx, Torch* torch, const OpCase& op_case, DType type, int64_t tokens) const {
    const OpSetup setup = op_case.make(ctx, type, tokens);
    std::vector<Contender> contenders;
    const auto add = [&](const char* name, const Way& way) {
      if (way.run) contenders.push_back(timed(ctx, name, way.run, way.share));
    };
    add("wick", setup.wick);
    add("fresh", setup.fresh);
    if (setup.bytes > 0) {
      add_copies(ctx, "copy", setup.bytes, 1, contenders);
      if (setup.bytes >= kLeastColdBytes) {
        const int64_t sets = static_cast<int64_t>((kColdBytes + setup.bytes - 1) / setup.bytes);
        add_cold(ctx, op_case, setup, type, tokens, sets, contenders);
        add_copies(ctx, "cold copy", setup.bytes, sets, contenders);
      }
    }
    if (ctx.device().is_cpu()) add("twin", setup.twin);
    if (ctx.device().is_cpu()) add("naive", setup.naive);
    if (torch) {
      for (Contender& way : torch->prepare(op_case.op, type, setup.shape, !no_compile_)) contenders.push_back(std::move(way));
    }
    measure(contenders, static_cast<int>(repetitions_.value_or(7)));
    OpResult result{op_case.op, type, tokens, setup.shape, setup.bytes, setup.operations, {}};
    for (const Contender& contender : contenders) result.seconds.emplace_back(contender.name, median(contender.seconds));
    return result;
  }

  static Json result_json(const OpResult& result) {
    const double wick = *result.of("wick");
    Json row = {{"op", result.op}, {"dtype", dtype_name(result.type)}, {"tokens", result.tokens}, {"shape", result.shape}, {"wick_us", wick * 1e6}};
    for (const char* name : {"fresh", "copy", "twin", "naive", "eager", "compiled"}) {
      const std::optional<double> seconds = result.of(name);
      row[std::string(name) + "_us"] = seconds ? Json(*seconds * 1e6) : Json(nullptr);
    }
    row["gb_s"] = result.bytes > 0 ? Json(static_cast<double>(result.bytes) / wick * 1e-9) : Json(nullptr);
    const std::optional<double> cold = result.of("cold");
    row["cold_gb_s"] = cold ? Json(static_cast<double>(result.bytes) / *cold * 1e-9) : Json(nullptr);
    row["cold_copy_fraction"] = cold ? Json(*result.of("cold copy") / *cold) : Json(nullptr);
    row["copy_fraction"] = result.bytes > 0 ? Json(*result.of("copy") / wick) : Json(nullptr);
    row["gflop_s"] = result.operations > 0 ? Json(result.operations / wick * 1e-9) : Json(nullptr);
    for (const char* name : kRatios) {
      const std::optional<double> seconds = result.of(name);
      row[std::string("times_") + name] = seconds ? Json(*seconds / wick) : Json(nullptr);
    }
    return row;
  }

  static std::string cell(const std::string& text, size_t width) { return std::string(width > text.size() ? width - text.size() : 0, ' ') + text; }

  static std::string percent(double part) { return apps::format_fixed(part * 100, 0) + " %"; }

  static std::string result_line(const OpResult& result) {
    const double wick = *result.of("wick");
    std::string line = result.op + std::string(result.op.size() < 15 ? 15 - result.op.size() : 1, ' ') + cell(dtype_name(result.type), 4) +
                       cell(std::to_string(result.tokens), 6) + cell(apps::format_fixed(wick * 1e6, 1), 11);
    if (result.bytes > 0) {
      line += cell(apps::format_fixed(static_cast<double>(result.bytes) / wick * 1e-9, 1) + " GB/s", 13);
      line += cell(percent(*result.of("copy") / wick), 6);
    } else {
      line += cell(apps::format_fixed(result.operations / wick * 1e-9, 1) + " GF/s", 13) + cell("", 6);
    }
    const std::optional<double> cold = result.of("cold");
    line += cell(cold ? apps::format_fixed(static_cast<double>(result.bytes) / *cold * 1e-9, 1) : "", 8) + cell(cold ? percent(*result.of("cold copy") / *cold) : "", 6);
    for (const char* name : kRatios) {
      const std::optional<double> seconds = result.of(name);
      line += cell(seconds ? apps::format_fixed(*seconds / wick, 2) : "-", 10);
    }
    return line + "\n";
  }

  static void print_header(const Context& ctx, bool torch) {
    apps::write_output(concat(cpu_model_name(), ", ", ctx.device().is_cpu() ? isa_name(ctx.isa()) : ctx.device().name(), ", ", ctx.threads(), " threads", torch ? "" : "; Python has no PyTorch to compare with", "\n\n"));
    apps::write_output("op             type     T    wick µs         rate  copy    cold  copy      twin     naive     eager  compiled\n");
  }

  Json cache_result(Context& ctx) const {
    const KvCacheComparison result = compare_kv_cache(ctx, kCacheTokens);
    const auto json = [](const KvCacheCost& cost) { return Json{{"append_us", cost.seconds * 1e6}, {"peak_bytes", cost.peak_bytes}}; };
    if (!json_) {
      const auto line = [](const char* name, const KvCacheCost& cost) {
        return concat("  ", name, apps::format_fixed(cost.seconds * 1e6, 2), " µs an append, ", apps::format_bytes(cost.peak_bytes), " at most\n");
      };
      apps::write_output(concat("\nkv_cache: ", kCacheTokens, " appends of one position, 8 heads of 64, bf16\n", line("KvCache        ", result.cache),
                                      line("concatenation  ", result.concatenation), "  ratio          ",
                                      apps::format_fixed(result.concatenation.seconds / result.cache.seconds, 0), "\n"));
    }
    return {{"tokens", kCacheTokens}, {"cache", json(result.cache)}, {"concatenation", json(result.concatenation)}};
  }

  std::vector<std::string> ops_, dtypes_;
  std::vector<int64_t> tokens_;
  std::optional<int64_t> repetitions_, threads_;
  std::optional<std::string> python_, device_;
  bool no_torch_ = false, no_compile_ = false, json_ = false;
};

}  // namespace
}  // namespace wick::bench

namespace wick::apps {
std::unique_ptr<Command> make_bench_ops() { return std::make_unique<bench::BenchOpsCommand>(); }
}  // namespace wick::apps
