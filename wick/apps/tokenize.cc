// wick tokenize: ids of a text, or the text of ids. Reads only the vocabulary of the model.
#include "wick/apps/cache.h"
#include "wick/apps/command.h"
#include "wick/apps/exit_code.h"
#include "wick/apps/json_output.h"
#include "wick/apps/model_flags.h"
#include "wick/apps/terminal.h"
#include "wick/apps/text_input.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"
#include "wick/engine/vocabulary.h"
#include "wick/formats/model_file.h"

namespace wick::apps {
namespace {

class TokenizeCommand : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", positional_, "As --model");
    model_.declare_model(flags);
    text_.declare(flags);
    flags.toggle("--no-special", no_special_, "Without the beginning and end tokens that the model asks for");
    flags.toggle("--parse-special", parse_special_, "Special tokens spelled out in the text become those tokens");
    flags.toggle("--decode", decode_, "From --ids to text");
    flags.custom("--ids", "1,2,…", [this](const std::string& text) { ids_ = parse_ids(text); }, "Token ids to decode");
    flags.group("Output");
    flags.toggle("--json", json_, "One JSON object: ids and pieces; with --decode also text");
    flags.footer("Prints one token a line: id, tab, its bytes with control characters escaped. With --decode: the exact bytes.");
  }

  int run(const Flags& flags) override {
    require(decode_ == !ids_.empty(), decode_ ? "--decode needs --ids" : "--ids needs --decode");
    require(!decode_ || !(text_.any() || no_special_ || parse_special_), "--decode takes only --ids");
    const std::string text = decode_ ? std::string() : text_.read();
    const auto file = open_model_file(resolve_model(model_.choose(flags, positional_)));
    const std::unique_ptr<Tokenizer> tokenizer = tokenizer_from_metadata(file->metadata());
    if (!decode_) ids_ = tokenizer->encode(text, {.add_special = !no_special_, .parse_special = parse_special_});
    if (json_) {
      print_as_json(*tokenizer);
    } else if (decode_) {
      write_output(tokenizer->decode(ids_));
    } else {
      print_lines(*tokenizer);
    }
    return kExitDone;
  }

 private:
  void print_as_json(const Tokenizer& tokenizer) const {
    Json pieces = Json::array();
    for (const int32_t id : ids_) pieces.push_back(std::string(tokenizer.piece(id)));
    Json result = {{"ids", ids_}, {"pieces", std::move(pieces)}};
    if (decode_) result["text"] = tokenizer.decode(ids_);
    print_json(result);
  }

  void print_lines(const Tokenizer& tokenizer) const {
    std::string out;
    for (const int32_t id : ids_) out += std::to_string(id) + "\t" + shown(tokenizer.piece(id), 1000) + "\n";
    write_output(out);
  }

  std::optional<std::string> positional_;
  ModelFlags model_;
  TextInput text_;
  std::vector<int32_t> ids_;
  bool no_special_ = false, parse_special_ = false, decode_ = false, json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_tokenize() { return std::make_unique<TokenizeCommand>(); }

}  // namespace wick::apps
