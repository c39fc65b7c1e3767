#!/usr/bin/env python3
"""Writes tests/data/tokenizer/bpe.json: a small byte-level BPE vocabulary and the ids that Hugging Face `tokenizers` gives for difficult
texts under each pre-tokenizer that wick knows. Needs the package `tokenizers`; the result is committed."""
import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

TRAINING = """
The quick brown fox jumps over the lazy dog. It's what they've always said, and we'll say it again: don't stop, I'm sure you'd agree.
In 1984 there were 365 days and 12 months; 3.14159 is about pi, 2,718 isn't e. Call 555-0199 before 10:30, room 42, 100% sure!
def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n
for (int i = 0; i < 1024; ++i) { total += values[i] * weights[i]; }  // a loop\n\tif (x == NULL) return -1;\r\n
Der schnelle braune Fuchs springt über den faulen Hund. Größe, Straße, Mädchen, schön und müßig.
Le renard brun saute par-dessus le chien paresseux : déjà vu, où, naïve, garçon, cœur.
El zorro marrón rápido salta sobre el perro perezoso. ¿Cómo estás? ¡Muy bien, señor!
Быстрая коричневая лиса прыгает через ленивую собаку. Привет, мир!
敏捷的棕色狐狸跳过了懒狗。你好，世界！今天天气很好。
素早い茶色の狐がのろまな犬を飛び越える。こんにちは、世界。
أهلا بالعالم كيف حالك اليوم  สวัสดีชาวโลก วันนี้อากาศดี नमस्ते दुनिया आप कैसे हैं
Tokens, tokenizer, tokenization; the theory of the thing, then there, these, those, through and throughout.
😀 😃 👍🏽 👩‍👩‍👧‍👦 🇩🇪 ✨ … — “quotes” ‘single’ «guillemets» € £ ¥ § ° ± × ÷ ≤ ≥ ≠ ∞
"""

TEXTS = [
    "", " ", "  ", "   x", "\t", "\n", "\n\n\n", " \n ", "\r\n", "a\r\nb\r\n\r\nc", "x  \n  y", "end   ", "\t\tindented\n",
    "Hello, world!", "hello world", " hello", "The capital of France is", "the  the   the",
    "I'm you're he's we've they'll I'd don't", "I'M YOU'RE HE'S WE'VE THEY'LL I'D", "'s 't ''s 'S", "it’s",
    "0 1 12 123 1234 12345 1234567890", "3.14159", "a1b22c333d4444", "x²", "½ ¼ Ⅷ ٣٤٥ ๑๒ ৪", "1 000 000", "１２３",
    "a  1", "x   42  y", "  \u0663\n 7", "\u00a0\u00a0 1", "it'\u017f x", "'\u017ft", "WE'\u212a", "I'Ll", "\u00aa\u02b0\u2160\u3007 \u0130\u0131",
    "def f(x):\n    return x + 1\n", "for(;;){}", "a->b::c<d>&e", "!!!???...", "—–-_", "http://example.com/a?b=c&d=e#f",
    "Größe Straße über", "naïve cœur", "e\u0301 a\u0308 n\u0303", "Привет, мир!", "你好，世界", "こんにちは世界", "한국어 텍스트",
    "أهلا بالعالم", "كِتَابٌ", "สวัสดีชาวโลก", "नमस्ते दुनिया", "हिन्दी क्षत्रिय", "ℌ𝔢𝔩𝔩𝔬",
    "😀", "👍🏽", "👩‍👩‍👧‍👦", "🇩🇪🇫🇷", "a😀b 😀 c", "✨ sparkle ✨",
    "\u00a0nbsp\u00a0", "\u2003em\u2003space", "\u3000全角\u3000", "\u200bzero\u200bwidth", "\ufeffbom", "\u180emongolian", "a\u180e!\u180e \u180e?",
    "\x00\x01\x02", "\x7f\x80", "\u2028line\u2029paragraph", "\x0b\x0c\x85", "\U000e0041 tag", "\ue000 private", "\u0378 unassigned",
    "a" * 300, "ab" * 200, " " * 100, "\n" * 50, "7" * 50, "the" * 100, "Donaudampfschifffahrtsgesellschaftskapitän",
    "<|im_start|>user\nHi<|im_end|>\n", "<|im_start|", "|im_end|>", "<<|im_end|>>", "<|im_end|><|im_end|>", " <|endoftext|> ", "<|endoftext|>",
]

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


KINDS = {
    "gpt-2": (pre_tokenizers.ByteLevel(add_prefix_space=False), False),
    "smollm": (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]), False),
    "llama-bpe": (split(LLAMA3), True),
    "qwen2": (split(QWEN2), False),
}


def main():
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=1000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    trained.train_from_iterator([TRAINING], trainer)
    model = json.loads(trained.to_str())["model"]
    vocab, merges = model["vocab"], [tuple(merge) for merge in model["merges"]]
    ids = {}
    for name, (pre_tokenizer, ignore_merges) in KINDS.items():
        tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges))
        tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
        ids[name] = [tokenizer.encode(text).ids for text in TEXTS]
    tokens = sorted(vocab, key=vocab.get) + SPECIAL
    out = pathlib.Path(__file__).resolve().parent.parent / "tests/data/tokenizer/bpe.json"
    rows = {"tokens": tokens, "special": len(SPECIAL), "merges": [" ".join(merge) for merge in merges], "texts": TEXTS, "ids": ids}
    out.write_text("{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in rows.items()) + "\n}\n")
    print(f"{out.name}: {len(tokens)} tokens, {len(TEXTS)} texts, {out.stat().st_size} bytes")


main()
