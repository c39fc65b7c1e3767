#include "wick/engine/model.h"

#include <chrono>
#include <exception>
#include <filesystem>
#include <future>

#include "wick/base/error.h"
#include "wick/engine/memory_plan.h"
#include "wick/engine/vocabulary.h"
#include "wick/models/registry.h"

namespace wick {
namespace {

// A part of the model that may be missing without the rest being useless: the reason is thrown when it is asked for.
template <class T>
struct Optional {
  std::unique_ptr<T> value;
  std::exception_ptr why_not;

  const T& get() const {
    if (!value) std::rethrow_exception(why_not);
    return *value;
  }
};

template <class T, class Make>
Optional<T> attempt(Make&& make) {
  Optional<T> result;
  try {
    result.value = make();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kUnsupported) throw;  // a broken file is no model; an unknown tokenizer may be done without
    result.why_not = std::current_exception();
  }
  return result;
}

}  // namespace

struct Model::Impl {
  ModelOptions options;
  std::string name;
  std::string architecture;
  uint64_t file_bytes = 0;
  double weights_ms = 0;
  SamplingParams sampling;
  Optional<Tokenizer> tokenizer;
  Optional<ChatTemplate> chat_template;
  std::unique_ptr<LanguageModel> network;
};

Model::Model() : impl_(std::make_unique<Impl>()) {}
Model::~Model() = default;

std::shared_ptr<const Model> Model::load(const std::string& path, const ModelOptions& options) {
  const std::shared_ptr<const ModelFile> file = open_model_file(path);
  const Metadata& metadata = file->metadata();
  std::shared_ptr<Model> model(new Model);
  Impl& impl = *model->impl_;
  impl.options = options;
  impl.options.on_progress = nullptr;
  impl.options.before_loading = nullptr;
  impl.file_bytes = file->file_bytes();
  impl.architecture = metadata.string("general.architecture");
  const std::string* name = metadata.find_string("general.name");
  impl.name = name && !name->empty() ? *name : std::filesystem::path(path).stem().string();

  if (options.before_loading) options.before_loading(*file);
  require_weights_fit(outline_network(*file, options.device, load_options(options)), options);
  Context ctx(options.device, {.threads = options.threads, .isa = options.isa});
  // The vocabulary takes about as long as the weights of a small model: read both at once.
  auto tokenizer = std::async(std::launch::async, [&] { return attempt<Tokenizer>([&] { return tokenizer_from_metadata(metadata); }); });
  const auto start = std::chrono::steady_clock::now();
  LoadOptions load = load_options(options);
  load.progress = options.on_progress;
  load.log = options.log;
  impl.network = load_network(ctx, *file, load);
  impl.weights_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  impl.tokenizer = tokenizer.get();
  if (impl.tokenizer.value) {
    impl.chat_template = attempt<ChatTemplate>([&] { return chat_template_from_metadata(metadata, *impl.tokenizer.value); });
    if (impl.tokenizer.value->vocab_size() > impl.network->dims().vocab) {
      fail(ErrorCode::kInvalidFile, "the tokenizer has ", impl.tokenizer.value->vocab_size(), " tokens, the output head ", impl.network->dims().vocab);
    }
  } else {
    impl.chat_template.why_not = impl.tokenizer.why_not;
  }
  return model;
}

bool Model::has_tokenizer() const { return impl_->tokenizer.value != nullptr; }
const Tokenizer& Model::tokenizer() const { return impl_->tokenizer.get(); }
const ChatTemplate& Model::chat_template() const { return impl_->chat_template.get(); }
const SamplingParams& Model::default_sampling() const { return impl_->sampling; }
const std::string& Model::name() const { return impl_->name; }
const std::string& Model::architecture() const { return impl_->architecture; }
int64_t Model::context_length() const { return impl_->network->dims().context; }
int32_t Model::vocab_size() const { return static_cast<int32_t>(impl_->network->dims().vocab); }
uint64_t Model::weight_bytes_per_token() const { return impl_->network->weight_bytes_per_token(); }
double Model::weights_ms() const { return impl_->weights_ms; }
uint64_t Model::file_bytes() const { return impl_->file_bytes; }
const ModelOptions& Model::options() const { return impl_->options; }
const LanguageModel& Model::network() const { return *impl_->network; }

std::vector<int32_t> Model::tokenize(std::string_view text, const EncodeOptions& options) const { return tokenizer().encode(text, options); }
std::string Model::detokenize(const std::vector<int32_t>& ids) const { return tokenizer().decode(ids); }
std::string Model::apply_template(const std::vector<ChatMessage>& messages) const { return chat_template().render(messages); }

}  // namespace wick
