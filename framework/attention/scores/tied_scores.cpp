#include "framework/attention/scores/tied_scores.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>
#include <vector>

#include "framework/attention/scores/indexer_tensors.h"
#include "framework/core/threads.h"

namespace sieve {
namespace {

template <class T>
T score_of(const T* q, const T* w, const T* key, const IndexerSizes& n) {
    T score = 0;
    for (int64_t j = 0; j < n.heads; ++j) {
        T dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < n.width; ++i) dot += q[j * n.width + i] * key[i];
        score += w[j] * (dot > T(0) ? dot : T(0));
    }
    return score;
}

// Equal numbers have equal bits (0 and -0 too), and bits have an order where NaN has none.
template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
template <class T>
Bits<T> bits_of_score(T score) {
    return std::bit_cast<Bits<T>>(score + T(0));
}

// How many of the scores another one equals.
template <class Bits>
int64_t count_tied(std::vector<Bits>& scores) {
    std::sort(scores.begin(), scores.end());
    int64_t tied = 0;
    for (size_t i = 0; i < scores.size(); ++i)
        tied +=
            (i > 0 && scores[i] == scores[i - 1]) || (i + 1 < scores.size() && scores[i] == scores[i + 1]);
    return tied;
}

template <class T>
double tied_share(const IndexerOperands& indexer, const Selection& selection) {
    const Tensor q = indexer.q.to(Device{}), k = indexer.k.to(Device{}), w = indexer.w.to(Device{});
    const Tensor indices = selection.indices.to(Device{}), counts = selection.counts.to(Device{});
    const IndexerSizes n = indexer_sizes(q);
    const int64_t rows = n.batch * n.length, slots = indices.dim(2);
    const int32_t* count = counts.data<int32_t>();
    std::vector<int64_t> tied(static_cast<size_t>(rows), 0);
    parallel_tasks(rows, [&](int64_t row) {
        if (count[row] > row % n.length) return;
        std::vector<Bits<T>> scores;
        for (int64_t i = 0; i < count[row]; ++i) {
            const int64_t key = row / n.length * n.length + indices.data<int32_t>()[row * slots + i];
            scores.push_back(
                bits_of_score(score_of(q.data<T>() + row * n.heads * n.width, w.data<T>() + row * n.heads,
                                       k.data<T>() + key * n.width, n)));
        }
        tied[static_cast<size_t>(row)] = count_tied(scores);
    });
    int64_t ties = 0, selected = 0;
    for (int64_t row = 0; row < rows; ++row) {
        if (count[row] > row % n.length) continue;
        ties += tied[static_cast<size_t>(row)];
        selected += count[row];
    }
    return selected ? static_cast<double>(ties) / static_cast<double>(selected) : NAN;
}

}  // namespace

double tied_share(const IndexerOperands& indexer, const Selection& selection) {
    constexpr const char* op = "tied_share";
    check_indexer(op, indexer);
    check_shape(op, "counts", selection.counts, Shape{indexer.q.dim(0), indexer.q.dim(1)},
                "indexer q is " + to_string(indexer.q.shape()));
    double share = NAN;
    dispatch_float(op, indexer.q.dtype(), [&]<class T>() { share = tied_share<T>(indexer, selection); });
    return share;
}

}  // namespace sieve
