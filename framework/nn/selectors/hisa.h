// Private to this room.
// The lightning indexer in two stages (HISA: Xu et al., "Efficient Hierarchical Indexing for Fine-Grained
// Sparse Attention", 2026): it ranks blocks by their pooled keys, and then scores token by token what the
// best blocks hold.
//
//   candidates  ops/block_select, lightning scores of the blocks' mean indexer keys: `candidates` times k
//               keys, those of the query's own block among them
//   selection   ops/select_among: the k candidates that the indexer scores highest
//
// It has the indexer's parameters and is trained as the indexer is, and with candidates for all keys it
// selects what the indexer selects.
#pragma once

#include "framework/nn/selector.h"

namespace sieve {

std::unique_ptr<Selector> make_hisa(const ParameterInit& init, const SelectorPlace& place,
                                    const SelectorConfig& config);

}  // namespace sieve
