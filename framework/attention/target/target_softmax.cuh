// Private to this room. From the products of all heads of some rows to their probabilities, added up over the
// heads. A block takes a row: its warps find maximum and sum of one head each, then its threads add up the
// probabilities of one key each, heads in ascending order. The products are read three times, the second and
// third time mostly from the L1 cache. Deterministic.
#pragma once

#include "framework/attention/scores/score_rows.h"
#include "framework/attention/selection/chosen_keys.cuh"
#include "framework/core/cuda/reduce.cuh"

namespace sieve::cuda {

template <class T>
struct TargetSoftmax {
    const T* z;  // [batches, rows, H, stride] of the chunk: products, not scaled yet
    T* p;        // [batches, rows, stride]: H times the target
    int64_t stride, heads;
    RowChunk chunk;
    int64_t p_batch;  // elements of p from one batch row to the next
    T scale;
    ChosenKeys keys;  // or none: all s <= t
    bool packed;      // chosen keys lie one after another, not at the places of all keys
};

constexpr int target_softmax_threads = 128;

template <class T>
__global__ void __launch_bounds__(target_softmax_threads) target_softmax_kernel(TargetSoftmax<T> a) {
    T* maximum = dynamic_shared<T>();  // [H]
    T* over_sum = maximum + a.heads;   // [H]
    const int64_t r = blockIdx.x, b = r / a.chunk.rows, t = a.chunk.first + r % a.chunk.rows;
    const int64_t row = (a.chunk.batch + b) * a.keys.length + t;
    const bool selected = a.keys.given();
    const int count = selected ? a.keys.count(row) : static_cast<int>(t + 1);
    const auto place = [&](int i) { return selected && !a.packed ? a.keys.key(row, i) : i; };
    const T* z = a.z + r * a.heads * a.stride;
    const int lane = threadIdx.x % warp_size;
    for (int h = threadIdx.x / warp_size; h < a.heads; h += target_softmax_threads / warp_size) {
        const T* own = z + h * a.stride;
        T largest = -static_cast<T>(INFINITY), sum = 0;
        for (int i = lane; i < count; i += warp_size) largest = Max()(largest, a.scale * own[place(i)]);
        largest = warp_reduce(largest, Max());
        for (int i = lane; i < count; i += warp_size) sum += exp(a.scale * own[place(i)] - largest);
        sum = warp_reduce(sum, Sum());
        if (lane == 0) {
            maximum[h] = largest;
            over_sum[h] = T(1) / sum;
        }
    }
    __syncthreads();
    T* p = a.p + b * a.p_batch + r % a.chunk.rows * a.stride;
    for (int i = threadIdx.x; i < count; i += target_softmax_threads) {
        const int at = place(i);
        T total = 0;
        for (int h = 0; h < a.heads; ++h)
            total += exp(a.scale * z[h * a.stride + at] - maximum[h]) * over_sum[h];
        p[at] = total;
    }
}

template <class T>
void target_softmax(const TargetSoftmax<T>& a) {
    launch_kernel(target_softmax_kernel<T>,
                  {.blocks = dim3(static_cast<unsigned>(a.chunk.batches * a.chunk.rows)),
                   .threads = dim3(target_softmax_threads),
                   .shared_bytes = static_cast<size_t>(a.heads) * 2 * sizeof(T)},
                  a);
}

}  // namespace sieve::cuda
