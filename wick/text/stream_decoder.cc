#include "wick/text/tokenizer.h"
#include "wick/text/utf8.h"

namespace wick {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool render_special) : tokenizer_(&tokenizer), render_special_(render_special) {}

void StreamDecoder::push(int32_t id, std::string& out) {
  if (!render_special_ && tokenizer_->kind(id) == TokenKind::kControl) return;
  pending_ += tokenizer_->piece(id);
  size_t at = 0;
  while (at < pending_.size()) {
    const Utf8Char c = next_utf8(pending_, at);
    if (c.status == Utf8Status::kIncomplete) break;
    if (c.status == Utf8Status::kValid) {
      out.append(pending_, at, c.length);
    } else {
      out += kReplacement;
    }
    at += c.length;
  }
  pending_.erase(0, at);
}

void StreamDecoder::finish(std::string& out) {
  if (!pending_.empty()) out += kReplacement;
  pending_.clear();
}

}  // namespace wick
