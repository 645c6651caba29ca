#include "framework/nn/selectors/key_blocks.h"

#include "framework/nn/growing_rows.h"
#include "framework/ops/block_means/block_means.h"

namespace sieve {

KeyBlocks blocks_of(const Tensor& k, int64_t block) {
    const int64_t B = k.dim(0), G = k.dim(1), T = k.dim(2), d = k.dim(3);
    return {.means = block_means(k.alias({B * G, T, d}), block).alias({B, G, T / block, d}),
            .block = block,
            .length = T};
}

// Means are made again when a block becomes whole: once in `block` tokens, for what scoring them costs.
void CachedBlocks::append(const Tensor& k, int64_t block) {
    append_rows("block keys", keys, length, k);
    const bool grown = !blocks.means.defined() || (length + k.dim(2)) / block > length / block;
    length += k.dim(2);
    if (grown) blocks = blocks_of(keys, block);
    blocks.length = length;
}

}  // namespace sieve
