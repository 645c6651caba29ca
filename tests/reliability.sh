#!/usr/bin/env bash
# Runs every check in its full form, one step after the other, and writes docs/reliability.md: what each found, when, on
# which commit and machine. A step that cannot run here is skipped, and says so; it does not count as passed.
# Usage: tests/reliability.sh [STEP]...   (default: all; the page keeps what the other steps found before)
set -uo pipefail
cd "$(dirname "$0")/.."
results=build/reliability
page=docs/reliability.md
mkdir -p $results
commit=$(git describe --always --abbrev=12 --dirty 2> /dev/null || echo unknown)

steps=(tests sanitize tsan cppcheck tidy coverage mutants fuzz)
declare -A command=(
    [tests]="SIEVE_FULL=1 ./build/sieve_tests"
    [sanitize]=./tests/sanitize.sh
    [tsan]=./tests/tsan.sh
    [cppcheck]=./tests/cppcheck.sh
    [tidy]=./tests/tidy.sh
    [coverage]=./tests/coverage.sh
    [mutants]=./tests/mutation_check.sh
    [fuzz]="make --no-print-directory fuzz"
)
declare -A title=(
    [tests]="tests in their full form"
    [sanitize]="address, leak and undefined-behaviour sanitizers"
    [tsan]="ThreadSanitizer"
    [cppcheck]="cppcheck"
    [tidy]="clang-tidy"
    [coverage]="line coverage"
    [mutants]="broken lines that the tests catch"
    [fuzz]="fuzzed files"
)

# passed, FAILED or skipped: what a step's log and exit status say.
verdict() { # STEP STATUS
    local last passed failed skipped _
    last=$(grep -E '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' $results/"$1".log | tail -1)
    read -r passed _ failed _ skipped _ <<< "${last:-0 passed, 0 failed} 0"
    if (($2 != 0)) || ((${failed%,} > 0)); then
        echo FAILED
    elif [[ -z $last ]] || ((${passed%,} == 0)); then
        echo skipped
    else
        echo passed
    fi
}

run_step() {
    local status=0 started=$SECONDS
    echo "== $1: ${command[$1]}"
    if [[ $1 == fuzz ]] && ! grep -q '^fuzz:' Makefile; then
        echo "skipped: this version has no fuzz targets" | tee $results/fuzz.log
    else
        bash -c "${command[$1]}" 2>&1 | tee $results/"$1".log
        status=${PIPESTATUS[0]}
    fi
    echo "$(verdict "$1" "$status")|$((SECONDS - started))|$(date -u +%F)|$commit" > $results/"$1".verdict
}

# What a step's log says in numbers, in one line.
figures() {
    local log=$results/$1.log
    case $1 in
        coverage) grep -E '^coverage: ' "$log" | tail -1 | sed 's/^coverage: //' ;;
        mutants) grep -E '^[0-9]+ of [0-9]+ caught$' "$log" | tail -1 ;;
        *) grep -E '^[0-9]+ passed, [0-9]+ failed|skipped[:,]' "$log" | tail -1 | sed 's/^tests.*: //' ;;
    esac
}

write_page() {
    local step state seconds date on
    cat << END
# Reliability

What \`make test-full\` found: every check in its full form, where \`make test\` runs the quick ones. The page is written by
\`tests/reliability.sh\`; a step that could not run on the machine says skipped.

Machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores; $(c++ --version | head -1).

| check | result | figures | minutes | date | commit |
|---|---|---|---|---|---|
END
    for step in "${steps[@]}"; do
        if [[ ! -f $results/$step.verdict ]]; then
            echo "| ${title[$step]} | not run | | | | |"
            continue
        fi
        IFS='|' read -r state seconds date on < $results/"$step".verdict
        echo "| ${title[$step]} | $state | $(figures "$step") | $(((seconds + 59) / 60)) | $date | \`$on\` |"
    done
    if grep -q 'MESSAGE: ' $results/tests.log 2> /dev/null; then
        printf '\n## What the tests counted\n\n'
        sed -nE 's/^.*MESSAGE: /* /p' $results/tests.log
    fi
    if grep -qE '^(framework|models)\S* +[0-9]+ lines' $results/coverage.log 2> /dev/null; then
        printf '\n## Line coverage by folder\n\n| folder | lines | run |\n|---|---|---|\n'
        sed -nE 's/^((framework|models)\S*) +([0-9]+) lines +([0-9.]+ %)$/| \1 | \3 | \4 |/p' $results/coverage.log
    fi
    if [[ -f $results/mutants.log ]]; then
        printf '\n## Broken lines\n\nEach is one line of `tests/mutations.txt`, built and tested on its own.\n\n'
        sed -nE 's/^(caught|SURVIVED) +[0-9]+ s  (.*)$/* \1: \2/p' $results/mutants.log
    fi
}

chosen=("$@")
(($# > 0)) || chosen=("${steps[@]}")
for step in "${chosen[@]}"; do
    [[ -n ${command[$step]:-} ]] || { echo "tests/reliability.sh: no step $step; there are ${steps[*]}" >&2; exit 2; }
done
for step in "${chosen[@]}"; do run_step "$step"; done
write_page > $page.new && mv $page.new $page

printf '\n%-52s %-8s %s\n' "scorecard of $commit" result figures
failed=0
for step in "${chosen[@]}"; do
    state=$(cut -d'|' -f1 $results/"$step".verdict)
    printf '%-52s %-8s %s\n' "${title[$step]}" "$state" "$(figures "$step")"
    [[ $state != FAILED ]] || failed=$((failed + 1))
done
echo "written to $page"
exit $((failed > 0))
