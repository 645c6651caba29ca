// Private to this room.
// The pairs of a query and one of its selected keys in the order in which the gathering backward takes them.
#pragma once

#include <algorithm>
#include <vector>

#include "framework/attention/tiles/attention_kernels.h"
#include "framework/core/tensor.h"

namespace sieve::cpu {

// A pair of a query and a key: the query's index in the upper bits, the key's in its block in the lower ones.
// So there may be 2^25 queries.
using SelectedPair = int32_t;
constexpr int block_bits = 6;
constexpr int64_t block_keys = int64_t{1} << block_bits;

inline SelectedPair selected_pair(int64_t query, int64_t key) {
    return static_cast<SelectedPair>(query << block_bits | (key & (block_keys - 1)));
}
inline int64_t query_of(SelectedPair pair) {
    return pair >> block_bits;
}
inline int64_t key_of(SelectedPair pair) {
    return pair & (block_keys - 1);
}

// The pairs of one batch row with queries in [first_query, length) and keys in [begin, end): ordered by block
// of keys, then query, then key. Queries count from first_query, blocks from `begin`.
class SelectedPairs {
  public:
    SelectedPairs(const SelectedKeys& keys, int64_t batch_row, int64_t length, int64_t first_query,
                  int64_t begin, int64_t end)
        : starts_((end - begin + block_keys - 1) / block_keys + 1) {
        const int64_t first_row = batch_row * length + first_query, rows = length - first_query;
        keys.short_indices ? order(keys, keys.short_indices, first_row, rows, begin, end)
                           : order(keys, keys.indices, first_row, rows, begin, end);
    }

    int64_t blocks() const { return static_cast<int64_t>(starts_.size()) - 1; }
    int64_t count(int64_t block) const { return starts_[block + 1] - starts_[block]; }
    const SelectedPair* of(int64_t block) const { return pairs_.data<SelectedPair>() + starts_[block]; }

  private:
    // Calls visit(query, key - begin) for every pair, query by query.
    template <class Index, class F>
    static void for_pairs(const SelectedKeys& keys, const Index* indices, int64_t first_row, int64_t rows,
                          int64_t begin, int64_t end, F&& visit) {
        for (int64_t i = 0; i < rows; ++i) {
            const Index *selected = indices + (first_row + i) * keys.slots,
                        *last = selected + keys.counts[first_row + i];
            for (const Index* s = std::lower_bound(selected, last, begin); s < last && *s < end; ++s)
                visit(i, *s - begin);
        }
    }

    template <class Index>
    void order(const SelectedKeys& keys, const Index* indices, int64_t first_row, int64_t rows, int64_t begin,
               int64_t end) {
        for_pairs(keys, indices, first_row, rows, begin, end,
                  [&](int64_t, int64_t key) { ++starts_[(key >> block_bits) + 1]; });
        for (size_t i = 1; i < starts_.size(); ++i) starts_[i] += starts_[i - 1];
        pairs_ = Tensor::empty(Shape{starts_.back()}, DType::int32);
        SelectedPair* pairs = pairs_.data<SelectedPair>();
        std::vector<int64_t> next(starts_.begin(), starts_.end() - 1);
        for_pairs(keys, indices, first_row, rows, begin, end, [&](int64_t query, int64_t key) {
            pairs[next[key >> block_bits]++] = selected_pair(query, key);
        });
    }

    std::vector<int64_t> starts_;  // of the blocks' pairs
    Tensor pairs_;
};

}  // namespace sieve::cpu
