#!/usr/bin/env bash
# Installs the library into a folder, builds the examples against it as a project elsewhere would, by CMake and by
# pkg-config, runs each, and configures a project that adds this one's folder.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
root=$PWD
passed=0 failed=0
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT

check() { # WHAT COMMAND...: the command's output is shown when it fails
    local what=$1
    shift
    if "$@" > "$prefix/log" 2>&1; then
        passed=$((passed + 1))
    else
        echo "tests/install.sh: $what: $*"
        tail -20 "$prefix/log"
        failed=$((failed + 1))
    fi
}
prints() { # TEXT COMMAND...: succeeds and prints a line with this text
    "${@:2}" | tee "$prefix/printed" && grep -qF -- "$1" "$prefix/printed"
}
refuses() { # CODE TEXT COMMAND...
    local status
    "${@:3}" 2>&1 | tee "$prefix/printed"
    status=${PIPESTATUS[0]}
    [[ $status == "$1" ]] && grep -qF -- "$2" "$prefix/printed"
}
elsewhere() { (cd "$prefix" && "$@"); }

check "the library is not installed" cmake --install build --prefix "$prefix/usr"
mv "$prefix/usr" "$prefix/moved" # what is installed may be moved, but for pkg-config's file, which names its place
check "examples: not configured" cmake -S examples -B "$prefix/examples" -DCMAKE_PREFIX_PATH="$prefix/moved" -DCMAKE_BUILD_TYPE=Debug
check "examples: not built" cmake --build "$prefix/examples"
mv "$prefix/moved" "$prefix/usr"
export LD_LIBRARY_PATH=$prefix/usr/lib
cat data/excerpt/*.txt | head -c 20000 > "$prefix/text.txt"
check "train_text" elsewhere prints "model.pt: weights" ./examples/train_text text.txt 4
check "one_op" elsewhere prints "after a step against its gradient" ./examples/one_op
check "select_keys" elsewhere prints "layer 3: " ./examples/select_keys model.pt "In the beginning God created the heaven and the earth."
check "select_keys chooses 8 of all tokens" test "$(grep '^layer 3: ' "$prefix/printed" | grep -o " [0-9]*'" | wc -l)" == 8
check "select_keys without a model" elsewhere refuses 1 "nowhere.pt" ./examples/select_keys nowhere.pt text
check "generate reads what train_text wrote" prints "In the" ./tools/generate --checkpoint "$prefix/model.pt" --prompt "In the" --max_new_tokens 3
export PKG_CONFIG_PATH=$prefix/usr/lib/pkgconfig
if command -v pkg-config > /dev/null; then
    # shellcheck disable=SC2046
    check "pkg-config" c++ -std=c++20 $(pkg-config --cflags sieve) examples/one_op.cpp $(pkg-config --libs sieve) -o "$prefix/one_op"
    check "built by pkg-config" prints "after a step" "$prefix/one_op"
else
    echo "pkg-config is not here: not tested"
fi
mkdir "$prefix/user"
printf '%s\n' 'cmake_minimum_required(VERSION 3.25)' 'project(user LANGUAGES CXX)' 'set(SIEVE_CUDA OFF)' \
    "add_subdirectory($root sieve)" "add_executable(one_op $root/examples/one_op.cpp)" \
    'target_link_libraries(one_op PRIVATE sieve::sieve)' > "$prefix/user/CMakeLists.txt"
check "add_subdirectory" cmake -S "$prefix/user" -B "$prefix/user/build" -G Ninja
check "add_subdirectory: the example and the library are targets" elsewhere prints "one_op" ninja -C user/build -t targets all
check "add_subdirectory: no program or test of ours is" refuses 1 "exp4" sh -c "ninja -C $prefix/user/build -t query exp4 2>&1"
for example in examples/*.cpp; do
    check "$example has 60 lines or more" test "$(wc -l < "$example")" -lt 60
done

echo "$passed passed, $failed failed"
exit $((failed > 0))
