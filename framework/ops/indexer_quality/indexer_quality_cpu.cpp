#include <cmath>
#include <limits>

#include "framework/attention/selection/common_keys.h"
#include "framework/attention/selection/select_room.h"
#include "framework/attention/target/target_block.h"
#include "framework/core/simd.h"
#include "framework/core/vector_math.h"
#include "framework/ops/indexer_quality/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t block_queries = 32;

template <class T>
struct QualityScratch {
    TargetScratch<T> target;
    T* p;  // [block_queries, row_stride]
    int64_t row_stride;
    SelectScratch<T> select;
    int32_t* best;  // [slots]
};

// One batch row's part of the arguments.
struct QualityRows {
    SelectedKeys keys;
    double* recall;
    double* covered;
    double* oracle;
    double* entropy;
    int64_t first_row;
};

// Of the distribution p / heads. NaN when a p is; a p that is not normal counts as 0, as loop_log wants.
template <class T>
SIEVE_INLINE double entropy_of(const T* __restrict p, int64_t keys, T over_heads) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t s = 0; s < keys; ++s) {
        const T share = p[s] * over_heads;
        sum -= static_cast<double>(share * loop_log(share >= std::numeric_limits<T>::min() ? share : T(1)));
    }
    return sum;
}

// False when a probability is NaN.
template <class T>
SIEVE_INLINE bool judge_row(const T* p, int64_t heads, int64_t t, const QualityRows& a,
                            const QualityScratch<T>& s) {
    const int64_t n = a.keys.counts[t];
    const int32_t* chosen = a.keys.indices + t * a.keys.slots;
    a.recall[t] = a.covered[t] = a.oracle[t] = 1;
    a.entropy[t] = entropy_of(p, t + 1, T(1) / static_cast<T>(heads));
    if (n > t) return !std::isnan(a.entropy[t]);
    if (!select_row(p, t + 1, n, s.select, s.best)) return false;
    double mass = 0, most = 0;
    for (int64_t i = 0; i < n; ++i) {
        mass += static_cast<double>(p[chosen[i]]);
        most += static_cast<double>(p[s.best[i]]);
    }
    a.recall[t] = static_cast<double>(common_keys(chosen, n, s.best, n)) / static_cast<double>(n);
    a.covered[t] = mass / static_cast<double>(heads);
    a.oracle[t] = most / static_cast<double>(heads);
    return true;
}

struct JudgeBlock {
    template <class T, int width>
    static SIEVE_INLINE void run(const TargetBlock<T>& target, const QualityRows& a,
                                 const QualityScratch<T>& s, LowestRow* lowest_bad) {
        target_rows<T, width>(target, s.target, s.p, s.row_stride);
        for (int64_t t = target.begin; t < target.end; ++t)
            if (!judge_row(s.p + (t - target.begin) * s.row_stride, target.heads, t, a, s))
                lowest_bad->note(a.first_row + t);
    }
};

template <class T>
void sum_rows(const IndexerQualityRows<T>& a) {
    std::fill(a.totals, a.totals + quality_totals, 0.0);
    for (int64_t row = 0; row < a.batch * a.length; ++row) add_row(a, row, a.totals);
}

}  // namespace

template <class T>
void indexer_quality(const IndexerQualityRows<T>& a) {
    const int64_t blocks = (a.length + block_queries - 1) / block_queries;
    const Tensor panels = all_panels(a.target.k, a.batch * a.target.key_heads, a.length, a.target.width);
    LowestRow lowest_bad;
    parallel_tasks(a.batch * blocks, [&](int64_t task) {
        const int64_t b = task % a.batch, begin = (blocks - 1 - task / a.batch) * block_queries;
        const int64_t end = std::min(a.length, begin + block_queries), row_stride = score_stride<T>(end);
        const TargetRoom<T> room(block_queries, end, false);
        const Tensor p = Tensor::empty({block_queries, row_stride}, dtype_of<T>);
        const SelectRoom<T> select(end);
        const Tensor best = Tensor::empty({a.keys.slots}, DType::int32);
        run_best<JudgeBlock, T>(
            target_block(a.target, panels, SelectedKeys{}, a.length, b, begin, end),
            QualityRows{a.keys.from_row(b * a.length), a.recall + b * a.length, a.covered + b * a.length,
                        a.oracle + b * a.length, a.entropy + b * a.length, b * a.length},
            QualityScratch<T>{room.scratch(), p.template data<T>(), row_stride, select.scratch(),
                              best.data<int32_t>()},
            &lowest_bad);
    });
    *a.bad_row = lowest_bad.get();
    sum_rows(a);
}

template void indexer_quality(const IndexerQualityRows<float>&);
template void indexer_quality(const IndexerQualityRows<double>&);

}  // namespace sieve::cpu
