// The selection the other way round: for each key the rows that selected it, in ascending order, so that one
// warp can add up a key's gradients in a fixed order. A stable counting sort in memory O(T k):
//
//   count   chunks of rows; counts[b, chunk, key] by integer atomics, whose order does not matter
//   begin   offsets[b, key], and in place of the counts where each chunk's part of a key's list begins
//   fill    one block a chunk walks its rows in order; a row's keys differ, so that its threads do not
//   collide
//
// Slots that hold no valid key (outside [0, t]) are left out. When a broken selection repeats a key in a row,
// a list may keep entries that were never written: readers clamp them.
#pragma once

#include <algorithm>

#include "framework/attention/tiles/head_rows.cuh"
#include "framework/core/cuda/reduce.cuh"

namespace sieve::cuda {

struct KeyLists {
    SelectedKeys keys;
    int32_t* counts;                                      // [batch, chunks, length]
    int32_t* offsets;                                     // [batch, length + 1]
    int32_t* rows;                                        // [batch, gathered * slots]
    int64_t length, first_row, chunks, chunk_rows, most;  // most: gathered * slots

    __device__ int32_t* counts_of(int64_t b, int64_t chunk) const {
        return counts + (b * chunks + chunk) * length;
    }
    // The key in a slot of row t, or -1.
    __device__ int key_of(int64_t b, int64_t t, int64_t slot) const {
        const int64_t row = b * length + t;
        if (slot >= keys.counts[row]) return -1;
        const int key = keys.indices[row * keys.slots + slot];
        return key >= 0 && key <= t ? key : -1;
    }
    __device__ int64_t begin(int64_t chunk) const { return first_row + chunk * chunk_rows; }
    __device__ int64_t end(int64_t chunk) const {
        return length < begin(chunk) + chunk_rows ? length : begin(chunk) + chunk_rows;
    }
};

constexpr int list_threads = 256, scan_threads = 1024;

static __global__ void __launch_bounds__(list_threads) count_keys_kernel(const __grid_constant__ KeyLists a) {
    const int64_t chunk = blockIdx.x, b = blockIdx.y;
    int32_t* counts = a.counts_of(b, chunk);
    for (int64_t t = a.begin(chunk); t < a.end(chunk); ++t)
        for (int64_t slot = threadIdx.x; slot < a.keys.slots; slot += list_threads) {
            const int key = a.key_of(b, t, slot);
            if (key >= 0) atomicAdd(counts + key, 1);
        }
}

// The sum of the values of the block's threads before this one; `total` becomes the sum of all.
static __device__ int sum_before(int value, int& total) {
    __shared__ int warp_sums[warp_size];
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    int sum = value;
    for (int offset = 1; offset < warp_size; offset *= 2) {
        const int other = __shfl_up_sync(whole_warp, sum, offset);
        if (lane >= offset) sum += other;
    }
    if (lane == warp_size - 1) warp_sums[warp] = sum;
    __syncthreads();
    int before = 0;
    total = 0;
    for (int w = 0; w < scan_threads / warp_size; ++w) {
        if (w < warp) before += warp_sums[w];
        total += warp_sums[w];
    }
    __syncthreads();
    return before + sum - value;
}

// One block a batch row, which walks the keys.
static __global__ void __launch_bounds__(scan_threads)
    begin_lists_kernel(const __grid_constant__ KeyLists a) {
    const int64_t b = blockIdx.x;
    int32_t* offsets = a.offsets + b * (a.length + 1);
    int carry = 0;
    for (int64_t base = 0; base < a.length; base += scan_threads) {
        const int64_t key = base + threadIdx.x;
        int count = 0, total = 0;
        for (int64_t chunk = 0; chunk < a.chunks && key < a.length; ++chunk)
            count += a.counts_of(b, chunk)[key];
        int begin = carry + sum_before(count, total);
        carry += total;
        if (key >= a.length) continue;
        offsets[key] = begin;
        for (int64_t chunk = 0; chunk < a.chunks; ++chunk) {
            int32_t& of_chunk = a.counts_of(b, chunk)[key];
            const int next = begin + of_chunk;
            of_chunk = begin;
            begin = next;
        }
    }
    if (threadIdx.x == 0) offsets[a.length] = carry;
}

static __global__ void __launch_bounds__(list_threads) fill_lists_kernel(const __grid_constant__ KeyLists a) {
    const int64_t chunk = blockIdx.x, b = blockIdx.y;
    int32_t* next = a.counts_of(b, chunk);
    int32_t* rows = a.rows + b * a.most;
    for (int64_t t = a.begin(chunk); t < a.end(chunk); ++t) {
        for (int64_t slot = threadIdx.x; slot < a.keys.slots; slot += list_threads) {
            const int key = a.key_of(b, t, slot);
            if (key >= 0) rows[next[key]++] = static_cast<int32_t>(t);
        }
        __syncthreads();  // row t comes before row t + 1 in every list
    }
}

// Owns the lists of the rows [first_row, length).
class KeyListsOf {
  public:
    KeyListsOf(const SelectedKeys& keys, const AttentionSizes& size, int64_t first_row) {
        constexpr int64_t most_chunks = 64;  // enough blocks to fill a GPU, few enough counts
        const int64_t gathered = size.length - first_row;
        const int64_t chunks = std::min({most_chunks, std::max<int64_t>(1, keys.slots), gathered});
        counts_ = device_scratch<int32_t>(size.batch * chunks * size.length);
        offsets_ = device_scratch<int32_t>(size.batch * (size.length + 1));
        rows_ = device_scratch<int32_t>(size.batch * gathered * keys.slots);
        lists_ = {.keys = keys,
                  .counts = scratch_data<int32_t>(counts_),
                  .offsets = scratch_data<int32_t>(offsets_),
                  .rows = scratch_data<int32_t>(rows_),
                  .length = size.length,
                  .first_row = first_row,
                  .chunks = chunks,
                  .chunk_rows = (gathered + chunks - 1) / chunks,
                  .most = gathered * keys.slots};
        fill_zero(counts_.raw(), counts_.bytes());
        const dim3 parts(static_cast<unsigned>(chunks), static_cast<unsigned>(size.batch));
        launch_kernel(count_keys_kernel, {.blocks = parts, .threads = dim3(list_threads)}, lists_);
        launch_kernel(begin_lists_kernel,
                      {.blocks = dim3(static_cast<unsigned>(size.batch)), .threads = dim3(scan_threads)},
                      lists_);
        launch_kernel(fill_lists_kernel, {.blocks = parts, .threads = dim3(list_threads)}, lists_);
    }
    const KeyLists& lists() const { return lists_; }

  private:
    Tensor counts_, offsets_, rows_;
    KeyLists lists_;
};

}  // namespace sieve::cuda
