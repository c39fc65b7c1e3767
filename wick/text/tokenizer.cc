#include "wick/text/tokenizer.h"

#include "wick/base/error.h"
#include "wick/text/bpe_tokenizer.h"
#include "wick/text/utf8.h"

namespace wick {

std::unique_ptr<Tokenizer> make_tokenizer(TokenizerConfig config) {
  if (config.model == "gpt2") return make_bpe_tokenizer(std::move(config));
  fail(ErrorCode::kUnsupported, "tokenizer model '", config.model.substr(0, 64), "' is not supported (supported: gpt2)");
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool render_special) : tokenizer_(&tokenizer), render_special_(render_special) {
  constexpr size_t kReserve = 256;  // longer than any piece plus an incomplete character: pushing a token does not allocate
  pending_.reserve(kReserve);
}

void StreamDecoder::push(int32_t id, std::string& out) {
  if (!render_special_ && tokenizer_->kind(id) == TokenKind::kControl) return;
  pending_ += tokenizer_->piece(id);
  drain(out);
}

void StreamDecoder::drain(std::string& out) {
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const Utf8Step step = utf8_step(rest);
    if (step.kind == Utf8Kind::kIncomplete) break;
    if (step.kind == Utf8Kind::kValid) {
      out.append(rest.substr(0, step.length));
    } else {
      out.append("\xef\xbf\xbd");
    }
    rest.remove_prefix(step.length);
  }
  pending_.erase(0, pending_.size() - rest.size());
}

void StreamDecoder::finish(std::string& out) {
  out += utf8_replace_invalid(pending_);
  pending_.clear();
}

}  // namespace wick
