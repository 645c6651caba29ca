// How the attention backwards share their work. One task owns the dk and dv of a chunk of keys of a head, so
// no two tasks add to the same element. With few heads there are several chunks a head, and each writes its
// own part of dq; the parts are added up in order. The cut depends on shapes alone: so do the bits, not on
// the number of threads.
#pragma once

#include <algorithm>

#include "framework/attention/tiles/attention_kernels.h"
#include "framework/attention/tiles/attention_vectors.h"
#include "framework/core/tensor.h"
#include "framework/core/threads.h"

namespace sieve::cpu {

// Multiplications of a forward that attends to everything.
inline int64_t attention_work(const AttentionSizes& z) {
    const int64_t pairs = (z.length * z.length - z.first_query * z.first_query) / 2;
    return z.batch * z.heads * pairs * (z.dim + z.value_dim);
}

// parallel_tasks, or a plain loop where the work would not pay for waking a thread.
template <class F>
void run_tasks(int64_t n, int64_t work, F&& body) {
    if (work >= 1 << 20) return parallel_tasks(n, body);
    for (int64_t i = 0; i < n; ++i) body(i);
}

struct KeyChunks {
    // Wanted: enough for balance and for chunks that fit L2, few enough parts of dq.
    static constexpr int64_t tasks = 32;
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

// One task: key and value heads [first, first + heads) of batch row b, keys [begin, end).
template <class T>
struct KeyTask {
    int64_t b, first, heads, begin, end;
    T* dq;  // [batch, heads, length, dim], this chunk's part
    T* dk;  // [heads of the task, end - begin, dim_padded], sums from 0
    T* dv;  // [heads of the task, end - begin, value_dim_padded], sums from 0
    int64_t dim_padded, value_dim_padded;

    T* dk_of(int64_t kv_head) const { return dk + (kv_head - first) * (end - begin) * dim_padded; }
    T* dv_of(int64_t kv_head) const { return dv + (kv_head - first) * (end - begin) * value_dim_padded; }
};

template <class T>
void store_key_gradients(const AttentionBackward<T>& a, const KeyTask<T>& task) {
    const AttentionSizes& z = a.size;
    for (int64_t g = task.first; g < task.first + task.heads; ++g)
        for (int64_t s = task.begin; s < task.end; ++s) {
            const int64_t row = (task.b * z.kv_heads + g) * z.length + s, own = s - task.begin;
            std::copy_n(task.dk_of(g) + own * task.dim_padded, z.dim, a.dk + row * z.dim);
            std::copy_n(task.dv_of(g) + own * task.value_dim_padded, z.value_dim, a.dv + row * z.value_dim);
        }
}

// Calls add_gradients(task) for every task, `heads` key and value heads each, and puts dq, dk and dv
// together. Rows of dk and dv are padded to whole vectors.
template <class T, class F>
void run_key_tasks(const AttentionBackward<T>& a, int64_t heads, F&& add_gradients) {
    const AttentionSizes& z = a.size;
    const KeyChunks chunks(z);
    const DqParts<T> dq(a.dq, z, chunks);
    const int64_t dim_padded = round_up(z.dim, widest<T>()),
                  value_dim_padded = round_up(z.value_dim, widest<T>());
    const int64_t blocks = z.kv_heads / heads;
    run_tasks(chunks.count * z.batch * blocks, attention_work(z), [&](int64_t i) {
        const int64_t chunk = i % chunks.count, row = i / chunks.count;
        const int64_t begin = chunks.begin(chunk), end = chunks.begin(chunk + 1);
        const Tensor dk = Tensor::zeros(Shape{heads * (end - begin) * dim_padded}, dtype_of<T>);
        const Tensor dv = Tensor::zeros(Shape{heads * (end - begin) * value_dim_padded}, dtype_of<T>);
        const KeyTask<T> task{.b = row / blocks,
                              .first = row % blocks * heads,
                              .heads = heads,
                              .begin = begin,
                              .end = end,
                              .dq = dq.of(chunk),
                              .dk = dk.template data<T>(),
                              .dv = dv.template data<T>(),
                              .dim_padded = dim_padded,
                              .value_dim_padded = value_dim_padded};
        add_gradients(task);
        store_key_gradients(a, task);
    });
    dq.add_up();
}

}  // namespace sieve::cpu
