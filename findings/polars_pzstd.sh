#!/usr/bin/env bash
# polars 2.1.0 (seen 2026-11-30)
#
# A zstd file may begin with a skippable frame (RFC 8878, 3.1.2). pzstd, the parallel compressor of the zstd package,
# writes one before each of its frames, so each of its files begins so. polars knows zstd by the magic number of an ordinary
# frame only, whatever the file is called, and reads these as text:
#
#   read_ndjson, scan_ndjson     ComputeError: stream did not contain valid UTF-8
#   read_csv, scan_csv           ComputeError: invalid utf-8 sequence
#   read_csv, utf8-lossy         no error: a table whose names and rows are pieces of compressed bytes
#   a skippable frame between two others is skipped; pandas, pyarrow and zstandard read all of them
#
# Why it matters: corpora are shared as .jsonl.zst and large ones are compressed by pzstd. With utf8-lossy, which is
# what one tries after such an error, the table is wrong without a word.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: polars==2.1.0 zstandard==0.25.0 \
    pyarrow==26.0.1 || exit 2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import polars as pl
import pyarrow.json
import zstandard

lines = "".join(f'{{"n":{i},"text":"document {i}"}}\n' for i in range(6)).encode()
table = b"n,text\n" + b"".join(b"%d,document %d\n" % (i, i) for i in range(6))
# As pzstd writes it: 4 bytes that say how long the next frame is.
skippable = lambda frame: (0x184D2A50).to_bytes(4, "little") + (4).to_bytes(4, "little") + len(frame).to_bytes(4, "little")
compress = zstandard.ZstdCompressor().compress
for name, content in (("lines.jsonl", lines), ("table.csv", table)):
    frame = compress(content)
    open(name + ".plain.zst", "wb").write(frame)
    open(name + ".pzstd.zst", "wb").write(skippable(frame) + frame)
half = len(lines) // 2
first, second = compress(lines[:half]), compress(lines[half:])
open("between.jsonl.zst", "wb").write(first + skippable(second) + second)


def check(what, read, want):
    try:
        got = read()
    except Exception as error:
        got = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    print(f"{what}: {got}")
    if str(got) != str(want):
        sys.exit(f"changed: this was {want}")


check("zstandard reads pzstd's lines", lambda: zstandard.open("lines.jsonl.pzstd.zst", "rb").read() == lines, True)
check("pyarrow's rows of them", lambda: pyarrow.json.read_json("lines.jsonl.pzstd.zst").num_rows, 6)
check("polars: ordinary lines", lambda: pl.read_ndjson("lines.jsonl.plain.zst").shape, (6, 2))
check("polars: a skippable frame between", lambda: pl.read_ndjson("between.jsonl.zst").shape, (6, 2))
check("polars: an ordinary table", lambda: pl.read_csv("table.csv.plain.zst").shape, (6, 2))
check("polars: pzstd's lines", lambda: pl.read_ndjson("lines.jsonl.pzstd.zst").shape,
      "ComputeError: stream did not contain valid UTF-8 at line 0")
check("polars: scanned", lambda: pl.scan_ndjson("lines.jsonl.pzstd.zst").collect().shape,
      "ComputeError: stream did not contain valid UTF-8 at line 0")
check("polars: pzstd's table", lambda: pl.read_csv("table.csv.pzstd.zst").shape, "ComputeError: invalid utf-8 sequence")
check("polars: the same, utf8-lossy, reads other numbers", lambda: pl.read_csv(
    "table.csv.pzstd.zst", encoding="utf8-lossy").equals(pl.read_csv("table.csv.plain.zst")), False)
PYTHON
