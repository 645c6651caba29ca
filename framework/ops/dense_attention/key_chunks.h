// How the attention backwards share their work. One task owns the dk and dv of a chunk of keys of a head, so
// no two tasks add to the same element. With few heads there are several chunks a head, and each writes its
// own part of dq; the parts are added up in order. The cut depends on shapes alone: so do the bits, not on
// the number of threads.
#pragma once

#include <algorithm>

#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/ops/dense_attention/kernels.h"

namespace sieve::cpu {

struct KeyChunks {
    static constexpr int64_t tasks = 16;         // wanted: enough for balance, few enough parts of dq
    static constexpr int64_t fewest_keys = 256;  // a chunk below this is not worth its part of dq
    static constexpr int64_t tile = 64;

    explicit KeyChunks(const AttentionSizes& z) : length(z.length) {
        const int64_t heads = std::max<int64_t>(1, z.batch * z.kv_heads);
        const int64_t wanted =
            std::clamp<int64_t>((tasks + heads - 1) / heads, 1, std::max<int64_t>(1, length / fewest_keys));
        keys = std::max(tile, ((length + wanted - 1) / wanted + tile - 1) / tile * tile);
        count = (length + keys - 1) / keys;
    }
    int64_t begin(int64_t chunk) const { return std::min(length, chunk * keys); }

    int64_t length, keys, count;
};

// A task's sums, rows of keys [begin, end) padded to ld_dk and ld_dv elements, to their place in a.dk and
// a.dv.
template <class T>
void store_key_gradients(const AttentionBackward<T>& a, int64_t b, int64_t kv_head, int64_t begin,
                         int64_t end, const T* dk, int64_t ld_dk, const T* dv, int64_t ld_dv) {
    const AttentionSizes& z = a.size;
    const int64_t first = (b * z.kv_heads + kv_head) * z.length;
    for (int64_t s = begin; s < end; ++s) {
        std::copy_n(dk + (s - begin) * ld_dk, z.dim, a.dk + (first + s) * z.dim);
        std::copy_n(dv + (s - begin) * ld_dv, z.value_dim, a.dv + (first + s) * z.value_dim);
    }
}

// dq [batch, heads, length, dim] as one buffer a chunk; the first one is dq itself. Chunk c holds rows from
// its first key on: no earlier query sees it.
template <class T>
class DqParts {
  public:
    DqParts(T* dq, const AttentionSizes& z, const KeyChunks& chunks)
        : dq_(dq), size_(z), chunks_(chunks), elements_(z.batch * z.heads * z.length * z.dim) {
        if (chunks.count > 1) others_ = Tensor::empty(Shape{chunks.count - 1, elements_}, dtype_of<T>);
    }
    T* of(int64_t chunk) const { return chunk == 0 ? dq_ : others_.data<T>() + (chunk - 1) * elements_; }

    void add_up() const {
        for (int64_t c = 1; c < chunks_.count; ++c) {
            const int64_t first = chunks_.begin(c) * size_.dim, row = size_.length * size_.dim;
            parallel_for(size_.batch * size_.heads, (1 << 14) / (row - first) + 1,
                         [&](int64_t begin, int64_t end) {
                             for (int64_t h = begin; h < end; ++h)
                                 add(dq_ + h * row, of(c) + h * row, first, row);
                         });
        }
    }

  private:
    static void add(T* __restrict to, const T* __restrict from, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) to[i] += from[i];
    }

    T* dq_;
    AttentionSizes size_;
    KeyChunks chunks_;
    int64_t elements_;
    Tensor others_;
};

}  // namespace sieve::cpu
