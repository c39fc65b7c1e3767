// The canonical form of a chat template's source: two sources with the same form render alike, however they are spaced, quoted and cut
// into tags. Recognises, does not run: there is no Jinja here.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace wick {

// Statements become `{% … %}` and what is written out becomes `{{ … }}`, tokens separated by one space. Whitespace outside tags is cut as
// Hugging Face does (trim_blocks, lstrip_blocks, `-` at tags), text outside tags becomes a string that is written out, outputs in a row
// and strings that are added become one, m['x'] becomes m.x, comments vanish.
// Nothing for a source that is not of this syntax: an open tag or string.
std::optional<std::string> canonical_template(std::string_view source);

// Whether `form` is `pattern` (both canonical) with any text in place of the one occurrence of `hole`, which lies in a string.
// The text, unescaped, or nothing.
std::optional<std::string> match_with_hole(std::string_view form, std::string_view pattern, std::string_view hole);

}  // namespace wick
