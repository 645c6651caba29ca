#!/usr/bin/env bash
# Shows tests/include_arrows.sh small trees, of which it must accept one and refuse the others for the right reason.
set -uo pipefail
script=$(cd "$(dirname "$0")" && pwd)/include_arrows.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
passed=0 failed=0

# put FILE LINE..: the file's lines, in the tree.
put() {
    mkdir -p "$tree/$(dirname "$1")"
    printf '%s\n' "${@:2}" > "$tree/$1"
}

plant() {
    rm -rf "${tree:?}"/*
    put framework/core/tensor.h '#include <vector>'
    put framework/blas/gemm.h '#include "framework/core/tensor.h"'
    put framework/blas/kernels_inl.h '#include "framework/blas/kernels.h"'
    put framework/attention/tiles/sizes.h '// Sizes.'
    put framework/attention/tiles/tile.cuh '// Private to this room.' '#include "framework/attention/tiles/sizes.h"'
    put framework/attention/tiles/tile.cu '#include "framework/attention/tiles/tile.cuh"'
    put framework/attention/gather/gather.cu '#include "framework/attention/tiles/sizes.h"'
    put framework/ops/add/add.cpp '#include "framework/ops/add/kernels.h"' '#include "framework/blas/gemm.h"'
    put framework/ops/sum/sum.cpp '#include "framework/ops/add/add.h"' '#include "framework/attention/gather/rows.h"'
    put framework/nn/module.h '#include "framework/ops/add/add.h"'
    put framework/report/page.cpp '#include "models/config.h"' '#include "framework/train/trainer.h"'
    put models/config.h '#include "framework/nn/module.h"'
    put experiments/exp4.cpp '#include "framework/runs/experiment.h"'
    put tools/bench.cpp '#include "framework/measure/flops.h"'
}

# expect STATUS TEXT: how the script ends on the tree, and what its output holds.
expect() {
    local output status
    output=$("$script" "$tree" 2>&1)
    status=$?
    if ((status == $1)) && [[ $output == *"$2"* ]]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "want status $1 and \"$2\", have status $status and:"
        echo "$output"
    fi
}

# refuse FILE LINE TEXT: a tree with one more file, of that line, is refused with the text.
refuse() {
    plant
    put "$1" "// Something." "$2"
    expect 1 "$1:2: $3"
}

plant
expect 0 "1 passed, 0 failed"

refuse framework/core/device.h '#include "framework/ops/add/add.h"' "core may not include ops"
refuse framework/blas/rate.cpp '#include "framework/attention/tiles/sizes.h"' "blas may not include attention/tiles"
refuse framework/attention/tiles/mask.h '#include "framework/attention/gather/rows.h"' \
    "attention/tiles may not include attention/gather"
refuse framework/attention/gather/rows.cpp '#include "framework/autograd/autograd.h"' \
    "attention/gather may not include autograd"
refuse framework/optim/muon.cpp '#include "framework/ops/sum/sum.h"' "optim may not include ops"
refuse framework/nn/layers.cpp '#include "framework/optim/adamw.h"' "nn may not include optim"
refuse framework/data/batches.h '#include "models/config.h"' "data may not include models"
refuse framework/measure/flops.cpp '#include "framework/report/page.h"' "measure may not include report"
refuse framework/runs/study.cpp '#include "tools/bench.h"' "runs may not include tools"
refuse models/decoder.cpp '#include "tests/support/testing.h"' "models may not include tests"
refuse framework/core/device.h '#  include <framework/io/file.h>' "core may not include io"
refuse framework/kitchen/pot.h '#include "framework/core/tensor.h"' "kitchen is no room"

refuse framework/nn/layers.cpp '#include "framework/ops/add/add_cuda.cuh"' \
    "framework/ops/add/add_cuda.cuh is private to its room"
refuse framework/ops/sum/sum_cpu.cpp '#include "framework/ops/add/kernels.h"' \
    "framework/ops/add/kernels.h is private to its room"
refuse framework/optim/muon.cpp '#include "framework/blas/kernels_inl.h"' \
    "framework/blas/kernels_inl.h is private to its room"
refuse framework/attention/gather/rows.cu '#include "framework/attention/tiles/tile.cuh"' \
    "framework/attention/tiles/tile.cuh is private to its room"
refuse framework/ops/add/add_cpu.cpp '#include "kernels.h"' '"kernels.h" is no path from the root'

rm -rf "${tree:?}"/*
expect 1 "no includes here"

echo "$passed passed, $failed failed"
((failed == 0))
