#include "framework/attention/scores/tied_scores.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "framework/attention/scores/indexer_tensors.h"
#include "framework/attention/scores/lightning_rows.h"
#include "framework/attention/scores/query_row_cpu.h"
#include "framework/attention/selection/select_row.h"
#include "framework/core/threads.h"

namespace sieve {
namespace {

// Equal numbers have equal bits (0 and -0 too), and bits have an order where NaN has none.
template <class T>
cpu::OrderKey<T> bits_of_score(T score) {
    return std::bit_cast<cpu::OrderKey<T>>(score + T(0));
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
double tied_share(const char* op, const IndexerOperands& indexer, const Selection& selection) {
    const Tensor q = indexer.q.to(Device{}), k = indexer.k.to(Device{}), w = indexer.w.to(Device{});
    const Tensor indices = selection.indices.to(Device{}), counts = selection.counts.to(Device{});
    // Without the scale: it is every score's, and may only round unequal ones together.
    const QueryRows<T> queries = lightning_rows<T>(op, q, w, 1);
    const int64_t length = queries.queries, rows = queries.batch * length, slots = indices.dim(2);
    const int32_t* count = counts.data<int32_t>();
    std::vector<int64_t> tied(static_cast<size_t>(rows), 0);
    parallel_tasks(rows, [&](int64_t row) {
        if (count[row] > row % length) return;
        const int64_t b = row / length;
        const QueryRow<T> query = queries.row(b, row % length, 0);
        std::vector<cpu::OrderKey<T>> scores;
        for (int64_t i = 0; i < count[row]; ++i) {
            const int64_t key = b * length + indices.data<int32_t>()[row * slots + i];
            scores.push_back(bits_of_score(cpu::score_key(query, k.data<T>() + key * queries.width)));
        }
        tied[static_cast<size_t>(row)] = count_tied(scores);
    });
    int64_t ties = 0, selected = 0;
    for (int64_t row = 0; row < rows; ++row) {
        if (count[row] > row % length) continue;
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
    dispatch_float(op, indexer.q.dtype(), [&]<class T>() { share = tied_share<T>(op, indexer, selection); });
    return share;
}

}  // namespace sieve
