#!/usr/bin/env bash
# Runs every check in its full form, one step after the other, and writes docs/reliability.md: what each found, when, on
# which commit and machine. A step that cannot run here is skipped, and says so; it does not count as passed.
# Usage: tests/reliability.sh [STEP]...   (default: all, which takes hours; what the page says of the other steps stays)
set -uo pipefail
cd "$(dirname "$0")/.."
results=build/reliability
page=docs/reliability.md
mkdir -p $results
commit=$(git describe --always --abbrev=12 --dirty 2> /dev/null || echo unknown)

steps=(tests resume saves crashes memory mutations sanitize tsan cppcheck tidy coverage mutants fuzz)
full="SIEVE_FULL=1 ./build/sieve_tests"
declare -A command=(
    [tests]=./build/sieve_tests
    [resume]="$full -tc='training: stopped at any step*'"
    [saves]="$full -sf='*/train/save_faults_test.cpp'"
    [crashes]="$full -sf='*/runs/crash_test.cpp'"
    [memory]="$full -sf='*/train/memory_test.cpp,*/runs/process_memory_test.cpp'"
    [mutations]="make --no-print-directory fuzz-build TARGETS=mutation_tests && SIEVE_FULL=1 ./build/fuzz/tests/fuzz/mutation_tests"
    [sanitize]=./tests/sanitize.sh
    [tsan]=./tests/tsan.sh
    [cppcheck]=./tests/cppcheck.sh
    [tidy]=./tests/tidy.sh
    [coverage]=./tests/coverage.sh
    [mutants]=./tests/mutation_check.sh
    [fuzz]="make --no-print-directory fuzz"
)
declare -A title=(
    [tests]="tests on the CPU"
    [resume]="stopped at every step and resumed"
    [saves]="every failing step of a save"
    [crashes]="killed and interrupted at random instants"
    [memory]="every failing allocation; memory flat, and as announced"
    [mutations]="10,000 mutations a format, under sanitizers"
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
    bash -c "${command[$1]}" 2>&1 | tee $results/"$1".log
    status=${PIPESTATUS[0]}
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

# What stands on the page of a step: its row, and behind it what it counted, line by line. A step that was not run now
# keeps what the page says of it.
row_of() { # STEP
    local state seconds date on
    if [[ ! -f $results/$1.verdict ]]; then
        grep -F "| ${title[$1]} |" "$page" 2> /dev/null || echo "| ${title[$1]} | not run | | | | |"
        return
    fi
    IFS='|' read -r state seconds date on < $results/"$1".verdict
    echo "| ${title[$1]} | $state | $(figures "$1") | $(((seconds + 59) / 60)) | $date | \`$on\` |"
}

details_of() { # STEP
    if [[ ! -f $results/$1.log ]]; then
        sed -n "/^<!-- $1 -->$/,/^<!-- end -->$/p" "$page" 2> /dev/null
        return
    fi
    local lines
    case $1 in
        coverage) lines=$(sed -nE 's/^((framework|models)\S*) +([0-9]+) lines +([0-9.]+ %)$/* \1: \4 of \3 lines/p' $results/"$1".log) ;;
        mutants) lines=$(sed -nE 's/^(caught|SURVIVED) +[0-9]+ s  (.*)$/* \1: \2/p' $results/"$1".log) ;;
        mutations) lines=$(sed -nE 's/^(\S+: [0-9]+ (mutations|of [0-9]+ flipped).*)$/* \1/p' $results/"$1".log) ;;
        fuzz) lines=$(sed -nE 's/^fuzz_(.*)$/* \1/p' $results/"$1".log) ;;
        resume | saves | crashes | memory) lines=$(sed -nE 's/^.*MESSAGE: /* /p' $results/"$1".log) ;;
    esac
    [[ -z ${lines:-} ]] || printf '<!-- %s -->\n\n## %s\n\n%s\n\n<!-- end -->\n' "$1" "${title[$1]^}" "$lines"
}

write_page() {
    local step
    cat << END
# Reliability

What \`make test-full\` found: every check in its full form, where \`make test\` runs the quick ones. The page is written by
\`tests/reliability.sh\`, which runs the steps that it is given; a step that could not run on the machine says skipped.

Machine of the last steps: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores; $(c++ --version | head -1).

| check | result | figures | minutes | date | commit |
|---|---|---|---|---|---|
END
    for step in "${steps[@]}"; do row_of "$step"; done
    for step in "${steps[@]}"; do
        [[ -z $(details_of "$step") ]] || { echo && details_of "$step"; }
    done
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
