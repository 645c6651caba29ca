// How a row's selected keys are read: ops/sparse_attention says when which is used.
#pragma once

namespace sieve {

enum class SparseMethod { automatic, gathered, masked_tiles };

}  // namespace sieve
