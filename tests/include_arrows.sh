#!/usr/bin/env bash
# Includes point along the arrows of this table, and at no other room's private header.
# Usage: tests/include_arrows.sh [FOLDER]   (the repository)
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

# Each room (a folder of framework/, of framework/attention/, or beside framework/), and what it may include beside
# itself: the rooms that are named, and all that those may include. Rooms are named further up only, so that no circle
# can arise. Tests may include everything.
arrows='
core
io                    core
autograd              core
blas                  core
quantization          core
routing               core
attention/selection   core
attention/tiles       attention/selection blas
attention/gather      attention/tiles
attention/scores      attention/selection blas
attention/target      attention/scores
ops                   attention/gather attention/target autograd quantization routing
optim                 blas
nn                    ops
data                  io
plot                  io
models                nn io
program               models data
train                 program optim
measure               train plot
report                train plot
runs                  measure report
experiments           runs
tools                 runs
'
# Private headers, for files of the same folder alone: in framework/ops/<op>/ all but <op>.h; everywhere kernels.h,
# *_inl.h, and those that begin with "// Private to this room."

sources=$(find framework models experiments tools -regex '.*\.\(h\|cuh\|cpp\|cu\)' 2> /dev/null | sort || true)
# shellcheck disable=SC2086
awk '
function room_of(path, part) {
    split(path, part, "/")
    if (part[1] != "framework") return part[1]
    return part[2] == "attention" ? part[2] "/" part[3] : part[2]
}
function folder_of(path) {
    sub(/\/[^\/]*$/, "", path)
    return path
}
function is_private(header, part, n) {
    n = split(header, part, "/")
    if (part[2] == "ops") return part[n] != part[3] ".h"
    return header in marked || part[n] == "kernels.h" || part[n] ~ /_inl\.h$/
}
function complain(what) {
    print what
    failed = 1
}
function read_arrow(i, from) {
    for (i = 2; i <= NF; ++i) {
        if (!($i in rooms))
            complain("tests/include_arrows.sh: " $1 " names " $i ", which is no room above it")
        for (from in rooms)
            if (($i, from) in may) may[$1, from] = 1
    }
    rooms[$1] = may[$1, $1] = 1
}
# `place` is FILE:LINE.
function check(place, file, header, from, to) {
    from = room_of(file)
    to = room_of(header)
    if (!(from in rooms))
        complain(place ": " from " is no room of the table in tests/include_arrows.sh")
    else if (!((from, to) in may))
        complain(place ": " from " may not include " to " (" header ")")
    else if (is_private(header) && folder_of(file) != folder_of(header))
        complain(place ": " header " is private to its room")
}

FILENAME == "-" { if (NF) read_arrow(); next }
FNR == 1 && /^\/\/ Private to this room\./ { marked[FILENAME] = 1 }
/^[ \t]*#[ \t]*include[ \t]*["<]/ {
    header = $0
    sub(/^[^"<]*["<]/, "", header)
    sub(/[">].*/, "", header)
    if (header ~ /^(framework|models|experiments|tools|tests)\//) {
        places[++count] = FILENAME ":" FNR
        files[count] = FILENAME
        headers[count] = header
    } else if ($0 ~ /"/ && header !~ /^cuda_emulation\//) {
        complain(FILENAME ":" FNR ": \"" header "\" is no path from the root of the repository")
    }
}
END {
    if (!count) complain("tests/include_arrows.sh: no includes here")
    for (i = 1; i <= count; ++i) check(places[i], files[i], headers[i])
    print failed ? "0 passed, 1 failed" : "1 passed, 0 failed"
    exit failed
}' - $sources <<< "$arrows"
