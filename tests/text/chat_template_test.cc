#include "wick/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "wick/base/error.h"

namespace wick {
namespace {

// The template of SmolLM2, as its file spells it.
constexpr const char* kSmolLm2 =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI "
    "assistant named "
    "SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

TEST(ChatTemplate, ChatMlWithASystemMessageOfItsOwn) {
  const auto chat = make_chat_template(kSmolLm2, "", "");
  EXPECT_EQ(
      chat->render({{"user", "Hi"}}),
      "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
      "<|im_start|>assistant\n");
  EXPECT_EQ(chat->render({{"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Yes?"}}, false),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes?<|im_end|>\n");
  EXPECT_EQ(chat->render({}, true), "<|im_start|>assistant\n");
}

// The same template written otherwise.
TEST(ChatTemplate, SpellingDoesNotMatter) {
  const auto chat = make_chat_template(
      "{#- ChatML -#}\n{%- for message in messages -%}\n  {{ \"<|im_start|>\" + message.role + \"\\n\" + message.content + '<|im_end|>\\n' "
      "}}\n{%- endfor -%}\n"
      "{%- if add_generation_prompt -%}{{ \"<|im_start|>\" + \"assistant\\n\" }}{%- endif -%}\n",
      "", "");
  EXPECT_EQ(chat->render({{"user", "a"}}), "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatTemplate, Llama3) {
  const std::string source =
      "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + "
      "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content "
      "%}{% endif %}"
      "{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";
  const auto chat = make_chat_template(source, "<|begin_of_text|>", "");
  EXPECT_EQ(
      chat->render({{"user", " \u00a0Hi there \n"}}),
      "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_EQ(chat->render({{"user", ""}}, false), "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<|eot_id|>");
}

TEST(ChatTemplate, Zephyr) {
  const std::string source =
      "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
      "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
      "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
      "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}";
  const auto chat = make_chat_template(source, "<s>", "</s>");
  EXPECT_EQ(chat->render({{"system", "S"}, {"user", "U"}}), "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\n");
  EXPECT_THROW(chat->render({{"tool", "x"}}), Error);
}

TEST(ChatTemplate, OthersAskForRaw) {
  for (const char* source : {"", "{{ messages }}", "{% for message in messages %}{{ message['content'] }}{% endfor %}", "{% if",
                             "{{ 'open }}", "{{ '\\q' }}", "{% endfor %}"}) {
    try {
      make_chat_template(source, "", "");
      ADD_FAILURE() << source;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      EXPECT_THAT(error.what(), testing::HasSubstr("--raw"));
    }
  }
}

// Source of every size and shape is only ever compared.
TEST(ChatTemplate, HugeSourcesAreRefused) {
  for (const char* part :
       {"{{ 'a' }}", "{% for x in y %}", "((((((((", "{{ a['b']['c'] + 'd' + 'e' }}", "{#", "{{", "'", "\n {% if x %}\n"}) {
    std::string source;
    while (source.size() < 3'000'000) source += part;
    EXPECT_THROW(make_chat_template(source, "", ""), Error) << part;
  }
}

// What a user writes is never read as template code.
TEST(ChatTemplate, MessagesAreText) {
  const auto chat = make_chat_template(kSmolLm2, "", "");
  EXPECT_THAT(chat->render({{"user", "{{ 1 }}{% raw %}"}}), testing::HasSubstr("<|im_start|>user\n{{ 1 }}{% raw %}<|im_end|>\n"));
}

}  // namespace
}  // namespace wick
