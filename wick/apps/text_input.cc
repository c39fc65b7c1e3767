#include "wick/apps/text_input.h"

#include "wick/apps/terminal.h"
#include "wick/base/error.h"
#include "wick/base/file.h"

namespace wick::apps {

void TextInput::declare(Flags& flags) {
  flags.group("Text");
  flags.text("-p,--prompt", "TEXT", text_, "The text");
  flags.text("-f,--file", "FILE", file_, "The file that holds it, - for standard input");
}

bool TextInput::given(const Flags& flags) const { return flags.on_command_line("--prompt") || flags.on_command_line("--file"); }

std::string TextInput::read() const {
  require(!(text_ && file_), "--prompt and --file both give the text: give one");
  if (text_) return *text_;
  if (file_) return read_file(*file_, kMaxTextBytes);
  require(!stdin_is_terminal(), "no text: give -p TEXT, -f FILE, or standard input");
  return read_file("-", kMaxTextBytes);
}

}  // namespace wick::apps
