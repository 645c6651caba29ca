#!/usr/bin/env bash
# Breaks the lines of tests/mutations.txt one at a time, in a copy of the sources, and demands that the tests fail on
# each: a test that passes on wrong code holds nothing. Ends with "N of N caught" and names the survivors.
# Usage: tests/mutation_check.sh [PATTERN]   (only mutants whose `what` or `file` has the pattern)
#        tests/mutation_check.sh --texts     (only whether every line that is to be broken is still there)
set -euo pipefail
cd "$(dirname "$0")/.."
pattern=${1:-}
table=tests/mutations.txt
tree=build/mutation/tree
jobs=${JOBS:-$(nproc)}
log=build/mutation/log
seconds_each=300 # a mutant that hangs is caught, too

fail() {
    echo "tests/mutation_check.sh: $*"
    echo "0 passed, 1 failed"
    exit 1
}

# The records, one array a field. A line without a key goes on with the field before it.
whats=() files=() olds=() news=() filters=()
read_table() {
    local line field=""
    while IFS= read -r line; do
        case $line in
            "#"* | "") field="" ;;
            "what:   "*) field=whats whats+=("${line#what:   }") ;;
            "file:   "*) field=files files+=("${line#file:   }") ;;
            "old:    "*) field=olds olds+=("${line#old:    }") ;;
            "new:    "*) field=news news+=("${line#new:    }") ;;
            "tests:  "*) field=filters filters+=("${line#tests:  }") ;;
            *)
                [[ -n $field ]] || fail "$table: a line belongs to no record: $line"
                local -n values=$field
                values[-1]+=$'\n'$line
                ;;
        esac
    done < "$table"
    local count=${#whats[@]}
    ((count > 0)) || fail "$table holds no mutant"
    for field in files olds news filters; do
        local -n values=$field
        ((${#values[@]} == count)) || fail "$table: $count records, but ${#values[@]} $field"
    done
}

# text_of FILE: its content into `text`, to the last line end.
text_of() {
    text=$(cat "$1" && echo x)
    text=${text%x}
}

# Whether each old text is there once: said before anything is built.
check_texts() {
    local i rest
    for i in "${!whats[@]}"; do
        [[ -f ${files[i]} ]] || fail "${files[i]}: no such file (${whats[i]})"
        text_of "${files[i]}"
        rest=${text//"${olds[i]}"/}
        (((${#text} - ${#rest}) == ${#olds[i]})) ||
            fail "${files[i]}: holds this text $(((${#text} - ${#rest}) / ${#olds[i]})) times, want once: ${olds[i]}"
    done
}

build() { # TARGET...
    cmake --build $tree/build -j "$jobs" --target "$@" > $log 2>&1
}

run_tests() { # FILTER
    (cd $tree && timeout $seconds_each build/sieve_tests -tc="$1") > $log 2>&1
}

read_table
check_texts
[[ $pattern != --texts ]] || { echo "${#whats[@]} passed, 0 failed" && exit; }
./tests/copy_tree.sh $tree
# Tests of programs are left out: they take long, and what they see a test of a part should.
folders='/tests/(attention|autograd|blas|core|data|io|models|nn|ops|optim|report|train)/'
# Compiled quickly, and each kernel once instead of for three instruction sets.
cmake -S $tree -B $tree/build -G Ninja -DSIEVE_CUDA=OFF -DSIEVE_TESTS="$folders" -DCMAKE_CXX_FLAGS_RELEASE=-O1 \
    -DCMAKE_CXX_FLAGS=-DSIEVE_NO_CLONES > /dev/null 2>&1
build sieve_tests || { tail -20 $log && fail "the unbroken sources do not build"; }

# A filter that no test case meets, or that fails without a mutant, would catch everything.
declare -A sound
caught=0 tried=0 survivors=()
for i in "${!whats[@]}"; do
    [[ "${whats[i]} ${files[i]}" == *"$pattern"* ]] || continue
    tried=$((tried + 1)) started=$SECONDS filter=${filters[i]} file=$tree/${files[i]}
    build sieve_shared || { tail -20 $log && fail "the unbroken sources do not build"; }
    if [[ -z ${sound[$filter]:-} ]]; then
        run_tests "$filter" || { tail -20 $log && fail "without a mutant the tests \"$filter\" fail, or there are none"; }
        sound[$filter]=1
    fi
    text_of "$file"
    printf %s "${text/"${olds[i]}"/"${news[i]}"}" > "$file"
    built=1
    build sieve_shared || built=0
    survived=0
    ((built == 0)) || ! run_tests "$filter" || survived=1
    printf %s "$text" > "$file"
    ((built == 1)) || { grep -m 3 error: $log || true; fail "this mutant does not compile: ${whats[i]}"; }
    if ((survived)); then
        survivors+=("${files[i]}: ${whats[i]} (tests $filter)")
        verdict=SURVIVED
    else
        caught=$((caught + 1)) verdict=caught
    fi
    printf '%-9s%4d s  %s\n' $verdict $((SECONDS - started)) "${whats[i]}"
done
((tried > 0)) || fail "no mutant has \"$pattern\" in its description or file"
for survivor in "${survivors[@]}"; do echo "survived: $survivor"; done
echo "$caught of $tried caught"
echo "$caught passed, ${#survivors[@]} failed"
((${#survivors[@]} == 0))
