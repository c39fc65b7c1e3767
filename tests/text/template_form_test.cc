#include "wick/text/template_form.h"

#include <gtest/gtest.h>

namespace wick {
namespace {

std::string form(std::string_view source) { return canonical_template(source).value_or("none"); }

TEST(TemplateForm, SpacingQuotesAndCutsVanish) {
  const std::string expected = "{% if a . x == \"b\" %}{{ \"c\\\"d\" }}{% endif %}";
  EXPECT_EQ(form("{% if a['x'] == 'b' %}{{ 'c\"d' }}{% endif %}"), expected);
  EXPECT_EQ(form("{%- if a[\"x\"]==\"b\" -%}  c\"d  {%- endif -%}\n"), expected);
  EXPECT_EQ(form("{%if a.x=='b'%}c{{ '\"' }}d{#- nothing #}{% endif %}"), expected);
  EXPECT_EQ(form("{% if a.x == 'b' %}{{ 'c' + '\"' + 'd' }}{% endif %}"), expected);
}

TEST(TemplateForm, WhatDiffersStaysDifferent) {
  EXPECT_NE(form("{% if a %}x{% endif %}"), form("{% if not a %}x{% endif %}"));
  EXPECT_NE(form("{{ a + 'x' }}"), form("{{ 'x' + a }}"));
  EXPECT_NE(form("{{ a['x y'] }}"), form("{{ a.x.y }}"));
  EXPECT_NE(form("{{ a | trim }}"), form("{{ a }}"));
  EXPECT_NE(form("x "), form("x"));
}

TEST(TemplateForm, BlocksAloneOnALineTakeItAway) {
  EXPECT_EQ(form("  {% if a %}\nx\n  {% endif %}\ny"), form("{% if a %}x\n{% endif %}y"));
  EXPECT_EQ(form("x {% if a %}y{% endif %}"), form("{{ 'x ' }}{% if a %}y{% endif %}"));
}

TEST(TemplateForm, OpenTagsAndStringsAreNotTemplates) {
  for (const char* source : {"{%", "{{ a", "{# b", "{{ 'a }}", "{{ \"\\x41\" }}", "{{ '\\"})
    EXPECT_FALSE(canonical_template(source)) << source;
  EXPECT_EQ(form(""), "");
  EXPECT_EQ(form("{ } {x}"), "{{ \"{ } {x}\" }}");
}

TEST(TemplateForm, Holes) {
  const std::string pattern = form("{{ 'before @H@ after' }}{% if x %}y{% endif %}");
  EXPECT_EQ(match_with_hole(form("{{ 'before some \"text\" after' }}{% if x %}y{% endif %}"), pattern, "@H@"), "some \"text\"");
  EXPECT_EQ(match_with_hole(form("{{ 'before  after' }}{% if x %}y{% endif %}"), pattern, "@H@"), "");
  EXPECT_FALSE(match_with_hole(form("{{ 'before z after' }}{% if x %}z{% endif %}"), pattern, "@H@"));
  // A hole does not reach out of its string.
  EXPECT_FALSE(match_with_hole(form("{{ 'before ' + a + ' after' }}{% if x %}y{% endif %}"), pattern, "@H@"));
}

}  // namespace
}  // namespace wick
