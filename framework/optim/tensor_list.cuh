// Kernels that work on many tensors in one launch: the list of tensors travels in the kernel's parameters,
// and each block finds the tensor that its chunk of elements belongs to.
#pragma once

#include <vector>

#include "framework/core/cuda/launch.cuh"
#include "framework/core/cuda/packs.cuh"

namespace sieve::cuda {

constexpr int list_threads = 256;

// An Entry says how many elements it has: entry.count, which may be 0.
template <class Entry>
struct TensorList {
    // Kernel parameters may take 4 KiB in all.
    static constexpr int capacity = 3400 / static_cast<int>(sizeof(Entry) + sizeof(unsigned));

    Entry entries[capacity];
    unsigned first_chunk[capacity];  // the chunk that each entry begins with
    int count = 0;
    unsigned chunks = 0;

    // The entry that a chunk belongs to.
    __device__ int entry_of(unsigned chunk) const {
        int low = 0, high = count - 1;
        while (low < high) {
            const int middle = (low + high + 1) / 2;
            if (first_chunk[middle] <= chunk)
                low = middle;
            else
                high = middle - 1;
        }
        return low;
    }
};

// Calls f(list, chunks before it) for lists that hold all entries, in order, cut into chunks of `chunk`
// elements.
template <class Entry, class F>
void for_each_list(const std::vector<Entry>& entries, int64_t chunk, F&& f) {
    TensorList<Entry> list;
    unsigned before = 0;
    const auto give = [&] {
        if (list.count > 0) f(list, before);
        before += list.chunks;
        list.count = 0;
        list.chunks = 0;
    };
    for (const Entry& entry : entries) {
        if (list.count == TensorList<Entry>::capacity) give();
        list.entries[list.count] = entry;
        list.first_chunk[list.count++] = list.chunks;
        list.chunks += blocks_for(entry.count, chunk);
    }
    give();
}

// A thread's part of a chunk is one pack; f.template update<n>(entry, i) works on the elements i to i + n
// - 1.
template <int n, class Entry, class F>
__global__ void __launch_bounds__(list_threads)
    update_kernel(const __grid_constant__ TensorList<Entry> list, F f) {
    const int index = list.entry_of(blockIdx.x);
    const Entry& entry = list.entries[index];
    const int64_t chunk = blockIdx.x - list.first_chunk[index];
    const int64_t i = (chunk * list_threads + threadIdx.x) * n;
    if (i + n <= entry.count)
        f.template update<n>(entry, i);
    else
        for (int64_t j = i; j < entry.count; ++j) f.template update<1>(entry, j);
}

// Updates every element of every entry. `packs`: all pointers of the entries start packs of T.
template <class T, class Entry, class F>
void update_all(const std::vector<Entry>& entries, bool packs, const F& f) {
    constexpr int pack = full_pack<T>;
    for_each_list(entries, list_threads * (packs ? pack : 1), [&](const auto& list, unsigned) {
        launch_kernel(packs ? update_kernel<pack, Entry, F> : update_kernel<1, Entry, F>,
                      {.blocks = dim3(list.chunks), .threads = dim3(list_threads)}, list, f);
    });
}

// Whether an optimiser may change anything (kernels.h).
__device__ inline bool allowed_by(const double* guard) {
    return !guard || isfinite(*guard);
}

}  // namespace sieve::cuda
