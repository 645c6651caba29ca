#!/usr/bin/env bash
# Gathers the sources and what they need from Debian packages into a folder that builds with `make` on an x86-64 Linux
# machine with g++ and the CUDA toolkit alone: no cmake, no packages, no network. Usage: tools/make_bundle.sh [FOLDER]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bundle=${1:-$root/build/bundle}
cd "$root"
rm -rf "$bundle"
mkdir -p "$bundle/deps/include" "$bundle/deps/lib" "$bundle/deps/fonts"
files=$(git ls-files 2> /dev/null || true)
[[ -n $files ]] || { echo "make bundle: works in a git checkout only" >&2; exit 1; }
grep -vE '^(docs/.*\.png|Makefile|CMakeLists\.txt|\.ci/)' <<< "$files" | tar -cf - -T - | tar -xf - -C "$bundle"
for header in fmt doctest stb nlohmann CLI toml++ libdeflate.h zlib.h zconf.h zstd.h zstd_errors.h xxhash.h oniguruma.h utf8proc.h; do
    cp -r "/usr/include/$header" "$bundle/deps/include/"
done
cp /usr/lib/x86_64-linux-gnu/{libdeflate.a,libzstd.a,libutf8proc.a,libonig.so.5,libz.so.1} "$bundle/deps/lib/"
cp /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf "$bundle/deps/fonts/"
[[ -d data/corpus ]] && cp -r data/corpus "$bundle/data/"
cp tools/bundle.mk "$bundle/Makefile"
version=$(sed -n 's/.*project(sieve VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt | head -1)
cmake -DSOURCE="$root" -DOUTPUT="$bundle/deps/include/sieve_commit.h" -DVERSION="$version" -P tools/write_commit.cmake
(git rev-parse --short HEAD; git status --short | sed 's/^/changed: /') > "$bundle/COMMIT"
megabytes=$(du -sm "$bundle" | cut -f1)
echo "$bundle: $megabytes MiB, at commit $(head -1 "$bundle/COMMIT")"
((megabytes < 60)) || { echo "make bundle: that is more than the 60 MiB it may have" >&2; exit 1; }
