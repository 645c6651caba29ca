// The heads of one query are the rows of a score block; it meets the panels one after the other, as a block
// of indexer_scores does.
#include "framework/attention/scores/score_block.h"
#include "framework/attention/selection/select_room.h"
#include "framework/core/simd.h"
#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/ops/decode_select/kernels.h"

namespace sieve::cpu {
namespace {

// Multiplications that are worth waking a thread.
constexpr int64_t products_a_thread = 1 << 19;

struct ScorePanels {
    template <class T, int width>
    static SIEVE_INLINE void run(const ScoreBlock<T>& a, int64_t begin, int64_t end, T* x, T* scores) {
        for (int64_t c = begin; c < end; ++c) {
            dot_panel<T, width>(a, c, x);
            sum_heads<T, width>(a, x, c, scores, 0);
        }
    }
};

#define SIEVE_DECODE_CLONES(T)                                                                         \
    SIEVE_CLONES bool select(const T* scores, int64_t count, int64_t slots, const SelectScratch<T>& s, \
                             int32_t* indices, int32_t* chosen) {                                      \
        return select_into(scores, count, slots, s, indices, chosen);                                  \
    }
SIEVE_DECODE_CLONES(float)
SIEVE_DECODE_CLONES(double)
#undef SIEVE_DECODE_CLONES

// Scores of all keys of one batch row; whole panels are written.
template <class T>
void score_row(const DecodeSelect<T>& a, int64_t b, T* scores) {
    const ScoreBlock<T> block{.q = a.q + b * a.heads * a.width,
                              .w = a.w + b * a.heads,
                              .k_panels = a.panels + b * a.panels_each * a.width * panel_width<T>,
                              .heads = a.heads,
                              .width = a.width,
                              .scale = static_cast<T>(a.scale),
                              .begin = 0,
                              .end = 1};
    const int64_t products_a_panel = a.heads * a.width * panel_width<T>;
    parallel_for(panel_count<T>(a.length), products_a_thread / products_a_panel + 1,
                 [&](int64_t begin, int64_t end) {
                     const Tensor x = Tensor::empty({a.heads, panel_width<T>}, dtype_of<T>);
                     run_best<ScorePanels, T>(block, begin, end, x.template data<T>(), scores);
                 });
    if (!a.key_scales) return;
    const T* factors = a.key_scales + b * a.scales_each;
    for (int64_t s = 0; s < a.length; ++s) scores[s] *= factors[s];
}

}  // namespace

template <class T>
void store_indexer_keys(const StoreIndexerKeys<T>& a) {
    for (int64_t b = 0; b < a.batch; ++b)
        for (int64_t i = 0; i < a.keys; ++i) {
            const int64_t s = a.first + i, panel = b * a.panels_each + s / panel_width<T>;
            T* to = a.panels + panel * a.width * panel_width<T> + s % panel_width<T>;
            const T* from = a.k + (b * a.keys + i) * a.width;
            for (int64_t c = 0; c < a.width; ++c) to[c * panel_width<T>] = from[c];
        }
}

// A row that takes every key is not scored.
template <class T>
void decode_select(const DecodeSelect<T>& a) {
    const int64_t padded = panel_count<T>(a.length) * panel_width<T>;
    const Tensor scores = Tensor::empty({padded}, dtype_of<T>);
    const SelectRoom<T> room(padded);
    *a.bad_row = -1;
    for (int64_t b = a.batch - 1; b >= 0; --b) {
        if (a.length > a.slots) score_row(a, b, scores.data<T>());
        if (!select(scores.data<T>(), a.length, a.slots, room.scratch(), a.indices + b * a.slots,
                    a.counts + b))
            *a.bad_row = b;
    }
}

#define SIEVE_INSTANTIATE(T)                                      \
    template void store_indexer_keys(const StoreIndexerKeys<T>&); \
    template void decode_select(const DecodeSelect<T>&);
SIEVE_INSTANTIATE(float)
SIEVE_INSTANTIATE(double)
#undef SIEVE_INSTANTIATE

}  // namespace sieve::cpu
