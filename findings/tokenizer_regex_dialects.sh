#!/usr/bin/env bash
# tokenizers 0.23.3 (Oniguruma), tiktoken 0.14.0 (Rust's fancy-regex), regex 2026.11.19 (seen 2026-11-29)
#
# A pre-tokenizer's pattern that all of them compile, and that splits otherwise in each:
#
#   pattern         on              tokenizers         tiktoken           regex
#   \pL+            a cab, pLL      only pLL           every word         every word
#   (?m).+          two lines       one piece          a piece a line     a piece a line
#   [[:alpha:]]+    nino, with tilde   whole           ni, o              whole
#   [[:space:]]     a no-break space   found           not found          found
#   \w+             x2, with superscript   whole       x                  x
#   (?i:ss)+        SS, sharp s     one piece          SS                 SS
#
# \pL without braces is the three letters' literal text in Oniguruma; m there means that the dot matches
# newlines; POSIX classes are ASCII in Rust; Oniguruma's \w holds superscripts and fractions; case folding to
# two letters is Oniguruma's only. And regex knows a newer Unicode than the other two: 17,144 letters more,
# 336 more numbers.
#
# Why it matters: patterns move between tokenizer.json and tiktoken. The vocabulary is the same, most text
# splits alike, and the model sees pieces that it was not trained on. \p{L}, explicit classes and (?i:...) of
# single letters mean the same in all but for the version of Unicode.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    tokenizers==0.23.3 tiktoken==0.14.0 regex==2026.11.19 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import regex
import tiktoken
from tokenizers import Regex, pre_tokenizers


def of_tokenizers(pattern, text):
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    return [piece for piece, _ in split.pre_tokenize_str(text)]


def of_tiktoken(pattern, text):
    ranks, raw = {bytes([i]): i for i in range(256)}, text.encode()
    for size in range(2, len(raw) + 1):  # every part of the text is a token: a piece is one
        for at in range(len(raw) - size + 1):
            ranks.setdefault(raw[at:at + size], len(ranks))
    encoding = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return [encoding.decode([token]) for token in encoding.encode_ordinary(text)]


def check(what, seen, wanted):
    print(what, seen)
    if seen != wanted:
        sys.exit(f"changed: this was {wanted}")


nino, square, sharp = "ni\u00f1o", "x\u00b2", "SS\u00df"
for pattern, text, *wanted in (
        (r"\pL+", "a cab, pLL", ["pLL"], ["a", "cab", "pLL"], ["a", "cab", "pLL"]),
        (r"(?m).+", "one\ntwo", ["one\ntwo"], ["one", "two"], ["one", "two"]),
        (r"[[:alpha:]]+", nino, [nino], ["ni", "o"], [nino]),
        (r"[[:space:]]", "a\u00a0b", ["\u00a0"], [], ["\u00a0"]),
        (r"\w+", square, [square], ["x"], ["x"]),
        (r"(?i:ss)+", sharp, [sharp], ["SS"], ["SS"]),
        (r"\p{L}+|\p{N}{1,3}", "a cab 1234", *[["a", "cab", "123", "4"]] * 3)):
    for name, split, pieces in zip(("tokenizers", "tiktoken", "regex"), (of_tokenizers, of_tiktoken, regex.findall), wanted):
        check(f"{pattern!a} on {text!a}, {name}:", split(pattern, text), pieces)
every = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
for kind, more in ((r"\p{L}", 17144), (r"\p{N}", 336)):
    known = len("".join(of_tokenizers(kind, every)))
    check(f"{kind}: tokenizers knows {known}; more in regex:", len(regex.findall(kind, every)) - known, more)
PYTHON
