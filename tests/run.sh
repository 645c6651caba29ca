#!/usr/bin/env bash
# Runs test commands, given one per argument, and ends with one line that adds up what theirs say:
# "N passed, N failed, N skipped". Fails when one of them does, or when none ran a test. Those after "--together" are
# for one core each: they run side by side, and each one's output follows when it has ended.
set -uo pipefail
passed=0 failed=0 skipped=0 status=0
outputs=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null; rm -rf "$outputs"' EXIT

# count FILE CODE: adds what a command said last, having ended with CODE.
count() {
    local line p f s _
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$1" | tail -1)
    if [[ -z $line ]]; then
        echo "it ended with status $2 and did not count its tests"
        failed=$((failed + 1))
        status=1
        return
    fi
    read -r p _ f _ s _ <<< "$line 0"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    (($2 == 0)) || status=1
    # A program that failed without a failed test (a leak at its end, a crash in a destructor) is a failure too.
    (($2 == 0 || f > 0)) || failed=$((failed + 1))
}

while (($# > 0)) && [[ $1 != --together ]]; do
    echo "== $1"
    bash -c "$1" 2>&1 | tee "$outputs/alone"
    count "$outputs/alone" "${PIPESTATUS[0]}"
    shift
done
shift || true
started=()
for command in "$@"; do
    bash -c "$command" > "$outputs/${#started[@]}" 2>&1 &
    started+=($!)
done
for i in "${!started[@]}"; do
    echo "== $1"
    wait "${started[i]}"
    code=$?
    cat "$outputs/$i"
    count "$outputs/$i" "$code"
    shift
done
((passed + failed > 0)) || status=1
echo "$passed passed, $failed failed, $skipped skipped"
exit $status
