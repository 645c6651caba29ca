// Private to this room.
// Whole blocks of keys by the product of the queries with the block's mean key, and the query's own block
// (ops/block_select, linear scores; after MoBA, whose gate has no parameters either). All heads of a query
// share its blocks, as they share every selection here, so their products are added.
#pragma once

#include "framework/nn/selector.h"

namespace sieve {

std::unique_ptr<Selector> make_block_mean(const ParameterInit& init, const SelectorPlace& place,
                                          const SelectorConfig& config);

}  // namespace sieve
