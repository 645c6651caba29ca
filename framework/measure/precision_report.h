// How the precisions of the indexer compare: the time of a selection, and how much of float32's it finds.
#pragma once

#include <string>
#include <vector>

#include "framework/ops/lightning_indexer/lightning_indexer.h"

namespace sieve {

struct PrecisionResult {
    std::string precision;
    double seconds = 0;  // of one selection, the median of `repeats`
    double recall = 0;   // of float32's selection, over the queries with a choice
    double chance = 0;   // the recall of random keys
};

// One for each precision, fp32 first. Leaves out fp8 where dim is not a power of two.
std::vector<PrecisionResult> compare_precisions(const IndexerOperands& operands, int64_t top_k,
                                                int64_t repeats);

// The precisions on one kind of operands: random ones, or those of a trained model's layer.
struct PrecisionComparison {
    int64_t layer = -1;  // -1: random operands
    int64_t tokens = 0;
    std::vector<PrecisionResult> results;

    double over_fp32(const PrecisionResult& result) const { return result.seconds / results.front().seconds; }
};

// Markdown, with a column of layers where there are any.
std::string precision_table(const std::vector<PrecisionComparison>& comparisons);

}  // namespace sieve
