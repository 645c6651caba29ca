#!/usr/bin/env bash
# tokenizers 0.23.3 (seen 2026-11-30)
#
# One package, three versions of Unicode: the normalizers NFC and NFKC are those of 9.0 (2016), \p{...} in a Split is that of
# 16.0 (2024), the pre-tokenizer Digits that of 17.0 (2025).
#
#   NFKC of                                            tokenizers    Python's unicodedata
#   U+00BD, one half                                   1/2           1/2
#   U+32FF, the era Reiwa as one character (2019)      unchanged     U+4EE4 U+548C
#   U+1FBF0, a digit of seven segments (2020)          unchanged     0
#
#   a number between two letters is cut out by         Split \p{N}   Digits
#   U+16D70 (2024)                                     yes           yes
#   U+11DE0 (2025)                                     no            yes
#
# Why it matters: a text that was normalized in Python has other tokens than one that the tokenizer normalized, though
# both say NFKC. And who writes a tokenizer that is to give the same ids needs old tables for one step and new ones
# for the next: any single version of Unicode differs from the reference.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: tokenizers==0.23.3 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import unicodedata
from tokenizers import Regex, normalizers, pre_tokenizers

nfkc = normalizers.NFKC()
for text, wanted, of_python in (("\u00bd", "1\u20442", "1\u20442"), ("\u32ff", "\u32ff", "\u4ee4\u548c"),
                                ("\U0001fbf0", "\U0001fbf0", "0")):
    seen = nfkc.normalize_str(text), unicodedata.normalize("NFKC", text)
    print(f"NFKC of U+{ord(text):04X}: tokenizers {ascii(seen[0])}, unicodedata {ascii(seen[1])}")
    if seen != (wanted, of_python):
        sys.exit("changed: this was " + ascii((wanted, of_python)))

split, digits = pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"), pre_tokenizers.Digits(individual_digits=True)
for number, wanted in (("5", (3, 3)), ("\U00016d70", (3, 3)), ("\U00011de0", (1, 3))):
    seen = tuple(len(step.pre_tokenize_str("a" + number + "b")) for step in (split, digits))
    print(f"a, U+{ord(number):04X}, b: Split {seen[0]} pieces, Digits {seen[1]}")
    if seen != wanted:
        sys.exit(f"changed: these were {wanted}")
PYTHON
