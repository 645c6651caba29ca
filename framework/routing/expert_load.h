// What the routing ops share on the CPU: picking a token's experts, and the load-balancing loss over all of
// them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "framework/core/threads.h"

namespace sieve::cpu {

// Rows per partial sum of P and f: fixed, so that the sums do not depend on the number of threads.
constexpr int64_t routing_chunk_rows = 256;

// Insertion into a list of at most k, best first. Only a strictly larger score overtakes, so a tie keeps the
// lower index in front, and a NaN never moves forward.
template <class T>
void select_largest(const T* scores, int64_t experts, int64_t k, int32_t* selected) {
    int64_t size = 0;
    for (int64_t e = 0; e < experts; ++e) {
        int64_t at = size;
        while (at > 0 && scores[e] > scores[selected[at - 1]]) --at;
        if (at == k) continue;
        size = std::min(size + 1, k);
        for (int64_t i = size - 1; i > at; --i) selected[i] = selected[i - 1];
        selected[at] = static_cast<int32_t>(e);
    }
}

// Calls route(begin, end, sums, counts), which adds the probabilities and the assignments of its rows to
// sums[E] and counts[E], for chunks of all rows. Fills f (shares[E]) and returns E sum_e f_e P_e.
template <class T, class F>
T route_and_balance(int64_t tokens, int64_t experts, int64_t top_k, T* shares, F&& route) {
    const int64_t chunks = (tokens + routing_chunk_rows - 1) / routing_chunk_rows;
    std::vector<double> sums(static_cast<size_t>(chunks * experts), 0.0);
    std::vector<int64_t> counts(static_cast<size_t>(chunks * experts), 0);
    parallel_for(chunks, 2, [&](int64_t begin, int64_t end) {
        for (int64_t c = begin; c < end; ++c)
            route(c * routing_chunk_rows, std::min(tokens, (c + 1) * routing_chunk_rows),
                  sums.data() + c * experts, counts.data() + c * experts);
    });
    double balancing = 0;
    for (int64_t e = 0; e < experts; ++e) {
        double sum = 0;
        int64_t count = 0;
        for (int64_t c = 0; c < chunks; ++c) {
            sum += sums[static_cast<size_t>(c * experts + e)];
            count += counts[static_cast<size_t>(c * experts + e)];
        }
        const double rows = static_cast<double>(std::max<int64_t>(1, tokens));
        const double share = static_cast<double>(count) / (rows * static_cast<double>(top_k));
        shares[e] = static_cast<T>(share);
        balancing += share * (sum / rows);
    }
    return static_cast<T>(static_cast<double>(experts) * balancing);
}

}  // namespace sieve::cpu
