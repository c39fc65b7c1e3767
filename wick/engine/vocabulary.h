// From the metadata of a model file to its tokenizer and chat template.
#pragma once

#include <memory>

#include "wick/formats/metadata.h"
#include "wick/text/chat_template.h"
#include "wick/text/tokenizer.h"

namespace wick {

// Throws Error(kUnsupported) when the file has no tokenizer or one that wick does not know, Error(kInvalidFile) when it contradicts itself.
std::unique_ptr<Tokenizer> tokenizer_from_metadata(const Metadata& metadata);

// Throws Error(kUnsupported) when the file has no chat template or one that wick does not understand.
std::unique_ptr<ChatTemplate> chat_template_from_metadata(const Metadata& metadata, const Tokenizer& tokenizer);

}  // namespace wick
