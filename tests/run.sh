#!/usr/bin/env bash
# Runs test commands, given one per argument, and ends with one line that adds up what theirs say:
# "N passed, N failed, N skipped". Fails when one of them does, or when none ran a test.
set -uo pipefail
passed=0 failed=0 skipped=0 status=0
output=$(mktemp)
trap 'rm -f "$output"' EXIT
for command in "$@"; do
    echo "== $command"
    bash -c "$command" 2>&1 | tee "$output"
    code=${PIPESTATUS[0]}
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$output" | tail -1)
    if [[ -z $line ]]; then
        echo "it ended with status $code and did not count its tests"
        failed=$((failed + 1))
        status=1
        continue
    fi
    read -r p _ f _ s _ <<< "$line 0"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    ((code == 0)) || status=1
    # A program that failed without a failed test (a leak at its end, a crash in a destructor) is a failure too.
    ((code == 0 || f > 0)) || failed=$((failed + 1))
done
((passed + failed > 0)) || status=1
echo "$passed passed, $failed failed, $skipped skipped"
exit $status
