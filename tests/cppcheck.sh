#!/usr/bin/env bash
# cppcheck over framework/, models/, experiments/ and tools/, clean but for tests/cppcheck.suppressions, which says why.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v cppcheck > /dev/null; then
    echo "tests/cppcheck.sh: skipped, there is no cppcheck (Debian: cppcheck)"
    echo "0 passed, 0 failed, 1 skipped"
    exit
fi
# cppcheck 2.10 gives a file up at the template head of a lambda, []<class T>(), so it reads a copy without them.
copy=build/cppcheck
rm -rf $copy
mkdir -p $copy
cp -r framework models experiments tools $copy
find $copy -name '*.cpp' -exec sed -i -E 's/\]<class T(, class [A-Za-z]+)?>\(/](/' {} +
sources=$(find framework models experiments tools -name '*.cpp' | wc -l)
findings=$(cd $copy && cppcheck -j "$(nproc)" --std=c++20 --language=c++ --quiet --inline-suppr -I . \
    --enable=warning,performance,portability --suppressions-list=../../tests/cppcheck.suppressions \
    --template='{file}:{line}: {severity}: {id}: {message}' framework models experiments tools 2>&1) || true
[[ -z $findings ]] || echo "$findings"
failed=$(grep -c . <<< "$findings" || true)
((failed == 0)) && echo "$sources passed, 0 failed" && exit
echo "0 passed, $failed failed"
exit 1
