// What surrounds the arithmetic of score_block.h: packed keys, scratch, and the split into blocks of queries.
#pragma once

#include "framework/attention/scores/indexer_sizes.h"
#include "framework/attention/scores/score_block.h"
#include "framework/core/tensor.h"
#include "framework/core/threads.h"

namespace sieve::cpu {

void pack_panels_of(const float* k, int64_t keys, int64_t width, float* packed);
void pack_panels_of(const double* k, int64_t keys, int64_t width, double* packed);

// pack_panels of each of the `count` matrices of k [count, keys, width]; at least one element each.
template <class T>
Tensor all_panels(const T* k, int64_t count, int64_t keys, int64_t width) {
    const int64_t each = panel_count<T>(keys) * width * panel_width<T>;
    const Tensor packed = Tensor::empty({count, each}, dtype_of<T>);
    parallel_for(count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
            pack_panels_of(k + i * keys * width, keys, width, packed.template data<T>() + i * each);
    });
    return packed;
}

// Keys as rows of whole vectors, [count, keys, round_up(width, lanes)].
template <class T>
Tensor all_padded_rows(const T* k, int64_t count, int64_t keys, int64_t width) {
    const int64_t wide = round_up(width, lanes<T>);
    const Tensor padded = Tensor::empty({count * keys, wide}, dtype_of<T>);
    parallel_for(count * keys, 256, [&](int64_t begin, int64_t end) {
        pad_rows(k + begin * width, end - begin, width, padded.template data<T>() + begin * wide);
    });
    return padded;
}

template <class T>
ScoreBlock<T> score_block(const T* q, const T* w, const Tensor& panels, const IndexerSizes& n, double scale,
                          int64_t b, int64_t begin, int64_t end) {
    return {.q = q + b * n.length * n.heads * n.width,
            .w = w + b * n.length * n.heads,
            .k_panels = panels.data<T>() + b * panels.dim(1),
            .heads = n.heads,
            .width = n.width,
            .scale = static_cast<T>(scale),
            .begin = begin,
            .end = end};
}

// Calls body(b, begin, end) for all blocks of queries; the longest rows first, so that threads finish
// together.
template <class F>
void for_query_blocks(const IndexerSizes& n, F&& body) {
    const int64_t block = queries_per_block(n.heads), blocks = (n.length + block - 1) / block;
    parallel_tasks(n.batch * blocks, [&](int64_t task) {
        const int64_t begin = (blocks - 1 - task / n.batch) * block;
        body(task % n.batch, begin, std::min(n.length, begin + block));
    });
}

// Tiles and scores of one block. All tiles are kept when gradients will read them.
template <class T>
class ScoreScratch {
  public:
    ScoreScratch(const ScoreBlock<T>& a, bool keep) : ScoreScratch(a.queries(), a.heads, a.end, keep) {}
    ScoreScratch(int64_t queries, int64_t heads, int64_t keys, bool keep)
        : row_stride(score_stride<T>(keys)),
          tiles_(
              Tensor::empty({keep ? panel_count<T>(keys) : 1, queries * heads, panel_width<T>}, dtype_of<T>)),
          scores_(Tensor::empty({queries, row_stride}, dtype_of<T>)) {}

    T* x() const { return tiles_.template data<T>(); }
    T* scores() const { return scores_.template data<T>(); }

    const int64_t row_stride;

  private:
    Tensor tiles_, scores_;
};

// Scratch for the gradients of blocks of at most queries_per_block queries that see at most `keys` keys.
// Without `wanted`, only what scores need: one tile, and `gradients` then hands on null.
template <class T>
class GradientScratch {
  public:
    GradientScratch(const IndexerSizes& n, int64_t keys, bool wanted = true)
        : score_(queries_per_block(n.heads), n.heads, keys, wanted),
          wide_(round_up(n.width, lanes<T>)),
          g_(Tensor::empty({queries_per_block(n.heads), score_.row_stride}, dtype_of<T>)),
          weighted_q_(Tensor::empty({queries_per_block(n.heads) * n.heads, wide_}, dtype_of<T>)),
          d_(Tensor::empty(weighted_q_.shape(), dtype_of<T>)) {}

    T* x() const { return score_.x(); }
    T* scores() const { return score_.scores(); }
    T* g() const { return g_.template data<T>(); }
    int64_t row_stride() const { return score_.row_stride; }

    // k_rows: all_padded_rows of k; dq and dw of the whole batch.
    ScoreGradients<T> gradients(const Tensor& k_rows, const IndexerSizes& n, int64_t b, T* dq, T* dw,
                                T* dk) const {
        return {.g = g(),
                .row_stride = score_.row_stride,
                .x = score_.x(),
                .k_rows = k_rows.data<T>() + b * n.length * wide_,
                .weighted_q = weighted_q_.template data<T>(),
                .d = d_.template data<T>(),
                .dq = dq ? dq + b * n.length * n.heads * n.width : nullptr,
                .dw = dw ? dw + b * n.length * n.heads : nullptr,
                .dk = dk};
    }

  private:
    ScoreScratch<T> score_;
    int64_t wide_;
    Tensor g_, weighted_q_, d_;
};

}  // namespace sieve::cpu
