#!/usr/bin/env bash
# copy_tree.sh FOLDER: makes FOLDER hold the sources as they are now, and nothing else beside its build/. Files that
# are there already with the same content keep their time, so that little is built again.
set -euo pipefail
cd "$(dirname "$0")/.."
to=$1
mkdir -p "$to"
files=$(mktemp)
trap 'rm -f "$files"' EXIT
git ls-files --cached --others --exclude-standard | LC_ALL=C sort -u | while IFS= read -r file; do
    [[ ! -f $file ]] || echo "$file"
done > "$files"
while IFS= read -r file; do
    cmp -s "$file" "$to/$file" && continue
    mkdir -p "$to/$(dirname "$file")"
    cp --no-preserve=timestamps "$file" "$to/$file"
done < "$files"
# What was a source once; the programs that were built stay.
(cd "$to" && find . -name build -prune -o -type f ! -executable -printf '%P\n' | LC_ALL=C sort) |
    LC_ALL=C comm -23 - "$files" | while IFS= read -r file; do rm -f "${to:?}/$file"; done
