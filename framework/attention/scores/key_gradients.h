// Splits work that adds to one gradient per key, so that the sum has a fixed order on any number of threads.
//
// Short sequences: one task a batch row, its queries in ascending order. Long ones: batch rows one after
// another, each cut into a fixed number of query ranges with a partial sum of their own, which are then added
// in order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "framework/attention/scores/panel_sizes.h"
#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/core/vectors.h"

namespace sieve::cpu {

constexpr int64_t split_length = 512;  // sequences this long are split
constexpr int64_t split_parts = 8;

// dk[s] = sum over the parts that can reach key s, [rows, width] from [parts, keys, wide].
template <class T>
void add_parts(const T* partial, int64_t parts, int64_t part_queries, int64_t keys, int64_t width, T* dk) {
    const int64_t wide = round_up(width, lanes<T>);
    parallel_for(keys, 64, [&](int64_t begin, int64_t end) {
        for (int64_t s = begin; s < end; ++s) {
            T* out = dk + s * width;
            std::fill(out, out + width, T(0));
            for (int64_t part = s / part_queries; part < parts; ++part) {
                const T* in = partial + (part * keys + s) * wide;
                for (int64_t i = 0; i < width; ++i) out[i] += in[i];
            }
        }
    });
}

// Calls task(b, begin, end, dk) for query ranges that cover all rows: `dk` [end, round_up(width, lanes)]
// starts at zero and what the task adds to it ends up in `total` [B,T,width]. Ranges start at multiples of
// `block`.
template <class T, class F>
void sum_key_gradients(int64_t batch, int64_t length, int64_t width, int64_t block, T* total, F&& task) {
    const int64_t wide = round_up(width, lanes<T>);
    const int64_t parts = length < split_length ? 1 : split_parts;
    const int64_t part_queries = round_up((length + parts - 1) / parts, block);
    const auto run = [&](int64_t b, int64_t part, T* partial) {
        const int64_t begin = std::min(length, part * part_queries),
                      end = std::min(length, begin + part_queries);
        std::fill(partial, partial + end * wide, T(0));
        if (begin < end) task(b, begin, end, partial);
    };
    if (parts == 1) {
        parallel_tasks(batch, [&](int64_t b) {
            const Tensor partial = Tensor::empty({length, wide}, dtype_of<T>);
            run(b, 0, partial.template data<T>());
            add_parts(partial.template data<T>(), 1, length, length, width, total + b * length * width);
        });
        return;
    }
    const Tensor partial = Tensor::empty({parts, length, wide}, dtype_of<T>);
    for (int64_t b = 0; b < batch; ++b) {
        parallel_tasks(parts, [&](int64_t i) {
            const int64_t part = parts - 1 - i;  // the longest first
            run(b, part, partial.template data<T>() + part * length * wide);
        });
        add_parts(partial.template data<T>(), parts, part_queries, length, width, total + b * length * width);
    }
}

}  // namespace sieve::cpu
