#include "framework/measure/precision_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>

#include "framework/attention/selection/selection_recall.h"
#include "models/config.h"

namespace sieve {

std::vector<PrecisionResult> compare_precisions(const IndexerOperands& operands, int64_t top_k,
                                                int64_t repeats) {
    using Clock = std::chrono::steady_clock;
    std::vector<PrecisionResult> results;
    Selection reference;
    for (const auto& [precision, name] : enum_names<IndexerPrecision>) {
        if (precision == IndexerPrecision::fp8 &&
            !std::has_single_bit(static_cast<uint64_t>(operands.q.dim(3))))
            continue;
        const Selection selection = indexer_select(operands, top_k, precision);
        if (precision == IndexerPrecision::fp32) reference = selection;
        std::vector<double> seconds;
        for (int64_t i = 0; i < repeats; ++i) {
            const auto start = Clock::now();
            indexer_select(operands, top_k, precision);
            seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
        }
        std::sort(seconds.begin(), seconds.end());
        results.push_back({name, seconds[seconds.size() / 2], selection_recall(reference, selection),
                           chance_recall(reference)});
    }
    return results;
}

std::string precision_table(const std::vector<PrecisionComparison>& comparisons) {
    const bool layers = !comparisons.empty() && comparisons.front().layer >= 0;
    std::string table = fmt::format(
        "{}| tokens | precision | ms a layer | against float32 | recall of float32's keys | random keys |\n"
        "{}|---|---|---|---|---|---|\n",
        layers ? "| layer " : "", layers ? "|---" : "");
    for (const PrecisionComparison& c : comparisons)
        for (const PrecisionResult& r : c.results) {
            if (layers) table += fmt::format("| {} ", c.layer);
            const double ms = 1000 * r.seconds;
            table += fmt::format("| {} | {} | {:.{}f} | {:.2f}x | {:.4f} | {:.4f} |\n", c.tokens, r.precision,
                                 ms, ms < 1 ? 3 : 1, c.over_fp32(r), r.recall, r.chance);
        }
    return table;
}

}  // namespace sieve
