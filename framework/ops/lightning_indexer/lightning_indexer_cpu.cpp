#include <limits>

#include "framework/attention/scores/indexer_panels.h"
#include "framework/attention/scores/int8_scores.h"
#include "framework/attention/scores/key_gradients.h"
#include "framework/attention/selection/select_room.h"
#include "framework/core/simd.h"
#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/ops/lightning_indexer/kernels.h"

namespace sieve::cpu {
namespace {

struct WriteScores {
    template <class T, int width>
    static SIEVE_INLINE void run(const ScoreBlock<T>& a, T* x, T* scores, int64_t row_stride, T* out,
                                 int64_t length) {
        score_rows<T, width>(a, x, false, scores, row_stride);
        for (int64_t t = a.begin; t < a.end; ++t) {
            const T* from = scores + (t - a.begin) * row_stride;
            std::copy(from, from + t + 1, out + t * length);
            std::fill(out + t * length + t + 1, out + (t + 1) * length, -std::numeric_limits<T>::infinity());
        }
    }
};

struct BlockGradients {
    template <class T, int width>
    static SIEVE_INLINE void run(const ScoreBlock<T>& a, const ScoreGradients<T>& b, const T* dscores,
                                 int64_t length, T* scores, T* g) {
        score_rows<T, width>(a, b.x, true, scores, b.row_stride);
        for (int64_t t = a.begin; t < a.end; ++t) {
            T* row = g + (t - a.begin) * b.row_stride;
            std::copy(dscores + t * length, dscores + t * length + t + 1, row);
            std::fill(row + t + 1, row + b.row_stride, T(0));
        }
        score_gradients<T, width>(a, b);
    }
};

// Where a block of queries writes its selection.
struct ChosenRows {
    int32_t* indices;  // [T,slots], this batch row's
    int32_t* counts;   // [T]
    int64_t slots, first_row;
};

struct ChooseBlock {
    template <class T, int width>
    static SIEVE_INLINE void run(const ScoreBlock<T>& a, T* x, T* scores, int64_t row_stride,
                                 const SelectScratch<T>& scratch, const ChosenRows& out,
                                 LowestRow* lowest_bad) {
        if (a.end > out.slots) score_rows<T, width>(a, x, false, scores, row_stride);
        for (int64_t t = a.begin; t < a.end; ++t)
            if (!select_into(scores + (t - a.begin) * row_stride, t + 1, out.slots, scratch,
                             out.indices + t * out.slots, out.counts + t))
                lowest_bad->note(out.first_row + t);
    }
};

SIEVE_CLONES bool choose_row(const float* scores, int64_t count, int64_t slots,
                             const SelectScratch<float>& scratch, int32_t* indices, int32_t* chosen) {
    return select_into(scores, count, slots, scratch, indices, chosen);
}

}  // namespace

template <class T>
void indexer_scores_forward(const IndexerScoresForward<T>& a) {
    const IndexerSizes& n = a.sizes;
    const Tensor panels = all_panels(a.k, n.batch, n.length, n.width);
    for_query_blocks(n, [&](int64_t b, int64_t begin, int64_t end) {
        const ScoreBlock<T> block = score_block(a.q, a.w, panels, n, a.scale, b, begin, end);
        const ScoreScratch<T> scratch(block, false);
        run_best<WriteScores, T>(block, scratch.x(), scratch.scores(), scratch.row_stride,
                                 a.scores + b * n.length * n.length, n.length);
    });
}

template <class T>
void indexer_scores_backward(const IndexerScoresBackward<T>& a) {
    const IndexerSizes& n = a.sizes;
    const Tensor panels = all_panels(a.k, n.batch, n.length, n.width);
    const Tensor rows = all_padded_rows(a.k, n.batch, n.length, n.width);
    const int64_t block_queries = queries_per_block(n.heads);
    sum_key_gradients(
        n.batch, n.length, n.width, block_queries, a.dk, [&](int64_t b, int64_t begin, int64_t end, T* dk) {
            const GradientScratch<T> scratch(n, end);
            for (int64_t t = begin; t < end; t += block_queries) {
                const ScoreBlock<T> block =
                    score_block(a.q, a.w, panels, n, a.scale, b, t, std::min(end, t + block_queries));
                run_best<BlockGradients, T>(block, scratch.gradients(rows, n, b, a.dq, a.dw, dk),
                                            a.dscores + b * n.length * n.length, n.length, scratch.scores(),
                                            scratch.g());
            }
        });
}

// Blocks whose rows all take every key are not scored.
template <class T>
void indexer_select(const IndexerSelect<T>& a) {
    const IndexerSizes& n = a.sizes;
    const Tensor panels = all_panels(a.k, n.batch, n.length, n.width);
    LowestRow lowest_bad;
    for_query_blocks(n, [&](int64_t b, int64_t begin, int64_t end) {
        const ScoreBlock<T> block = score_block(a.q, a.w, panels, n, a.scale, b, begin, end);
        const ScoreScratch<T> scratch(block, false);
        const SelectRoom<T> room(end);
        run_best<ChooseBlock, T>(
            block, scratch.x(), scratch.scores(), scratch.row_stride, room.scratch(),
            ChosenRows{a.indices + b * n.length * a.slots, a.counts + b * n.length, a.slots, b * n.length},
            &lowest_bad);
    });
    *a.bad_row = lowest_bad.get();
}

// On int8 codes (attention/scores/int8_scores.h).
void indexer_select_int8(const IndexerSelectInt8& a) {
    const IndexerSizes& n = a.sizes;
    const Int8Operands operands{.q = a.q,
                                .k = a.k,
                                .w = a.w,
                                .key_scales = a.key_scales,
                                .sizes = n,
                                .scale = static_cast<float>(a.scale)};
    const Int8Keys packed = pack_int8_keys(operands);
    LowestRow lowest_bad;
    for_query_blocks(n, [&](int64_t b, int64_t begin, int64_t end) {
        const int64_t stride = int8_score_stride(end);
        const Tensor scores = Tensor::empty({end - begin, stride}, DType::float32);
        const SelectRoom<float> room(stride);
        if (end > a.slots) int8_scores(operands, packed, b, begin, end, scores);
        for (int64_t t = begin; t < end; ++t) {
            const int64_t row = b * n.length + t;
            if (!choose_row(scores.data<float>() + (t - begin) * stride, t + 1, a.slots, room.scratch(),
                            a.indices + row * a.slots, a.counts + row))
                lowest_bad.note(row);
        }
    });
    *a.bad_row = lowest_bad.get();
}

template void indexer_scores_forward(const IndexerScoresForward<float>&);
template void indexer_scores_forward(const IndexerScoresForward<double>&);
template void indexer_scores_backward(const IndexerScoresBackward<float>&);
template void indexer_scores_backward(const IndexerScoresBackward<double>&);
template void indexer_select(const IndexerSelect<float>&);
template void indexer_select(const IndexerSelect<double>&);

}  // namespace sieve::cpu
