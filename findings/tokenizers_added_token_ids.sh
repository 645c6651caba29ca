#!/usr/bin/env bash
# tokenizers 0.23.3 (seen 2026-11-30)
#
# Added tokens can have an id that is not theirs alone, and nothing is said.
#
# A vocabulary whose ids have a gap: add_tokens numbers from the size of the vocabulary, not from its highest id.
#   {"a": 0, "b": 2} and the added token "x"     x has the id 2, b's
#   encode("abx").ids                            [0, 2, 2]
#   decode([2])                                  x
#
# A normalizer that makes two added tokens equal: which of them a text has is drawn anew in each process.
#   NFKC, added "\ufb01" (the ligature) and "fi"     encode("fi").ids is [1] in some processes, [2] in others
#
# Why it matters: pruned vocabularies have gaps, and the new special token then decodes an ordinary piece as itself. In
# the second case two runs of one program on one text get different ids: cached tokens of one are wrong for the other.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: tokenizers==0.23.3 || exit 2
cat > "$folder/gap.py" <<'PYTHON'
import sys
from tokenizers import Tokenizer, models

tokenizer = Tokenizer(models.BPE({"a": 0, "b": 2}, []))
tokenizer.add_tokens(["x"])
seen = tokenizer.token_to_id("x"), tokenizer.encode("abx").ids, tokenizer.decode([2])
print("a vocabulary with a gap:", *seen)
if seen != (2, [0, 2, 2], "x"):
    sys.exit("changed")
PYTHON
cat > "$folder/equal.py" <<'PYTHON'
from tokenizers import AddedToken, Tokenizer, models, normalizers

tokenizer = Tokenizer(models.BPE({"a": 0}, []))
tokenizer.normalizer = normalizers.NFKC()
tokenizer.add_tokens([AddedToken("\ufb01", normalized=True), AddedToken("fi", normalized=True)])
print(*tokenizer.encode("fi").ids)
PYTHON
"$folder/venv/bin/python" "$folder/gap.py"
for _ in $(seq 40); do "$folder/venv/bin/python" "$folder/equal.py"; done | sort | uniq -c | tee "$folder/drawn"
[[ $(awk '{print $2}' "$folder/drawn" | xargs) == "1 2" ]] || { echo "changed: both 1 and 2 came in 40 processes" >&2 && exit 1; }
