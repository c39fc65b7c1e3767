// The tokenizer of GGUF's "gpt2" model: byte-level BPE.
#pragma once

#include <memory>

#include "wick/text/tokenizer.h"

namespace wick {

std::unique_ptr<Tokenizer> make_bpe_tokenizer(TokenizerConfig config);

}  // namespace wick
