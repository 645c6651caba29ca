// Private to this room.
// Keys with the means of their blocks, of a text and of one that grows.
#pragma once

#include "framework/ops/block_select/block_select.h"

namespace sieve {

KeyBlocks blocks_of(const Tensor& k /* [B,G,T,d] */, int64_t block);

struct CachedBlocks {
    int64_t length = 0;
    Tensor keys;       // [B,G,C,d], of which `length` are in use
    KeyBlocks blocks;  // of those

    void append(const Tensor& k /* [B,G,n,d] */, int64_t block);
};

}  // namespace sieve
