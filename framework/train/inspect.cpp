#include "framework/train/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "framework/autograd/autograd.h"
#include "framework/core/error.h"
#include "framework/io/json_file.h"
#include "framework/ops/indexer_quality/indexer_quality.h"
#include "framework/ops/lightning_indexer/lightning_indexer.h"
#include "framework/train/evaluate.h"

namespace sieve {
namespace {

constexpr float blank = std::numeric_limits<float>::quiet_NaN();

// exp(z - lse) of one head over the keys that `reads` names.
template <class Reads>
std::vector<float> head_weights(const AttentionTrace& t, int64_t head, const Reads& reads) {
    const int64_t T = t.q.dim(2), dh = t.q.dim(3);
    const float* q = t.q.data<float>() + head * T * dh;
    const float* k = t.k.data<float>() + head / (t.q.dim(1) / t.k.dim(1)) * T * dh;
    const float* lse = t.lse.data<float>() + head * T;
    std::vector<float> weights(static_cast<size_t>(T * T), blank);
    for (int64_t i = 0; i < T; ++i)
        for (int64_t s = 0; s <= i; ++s) {
            if (!reads(i, s)) continue;
            double dot = 0;
            for (int64_t c = 0; c < dh; ++c) dot += static_cast<double>(q[i * dh + c]) * k[s * dh + c];
            weights[static_cast<size_t>(i * T + s)] =
                static_cast<float>(std::exp(t.scale * dot - static_cast<double>(lse[i])));
        }
    return weights;
}

std::vector<float> mean_of(const std::vector<std::vector<float>>& heads) {
    std::vector<float> mean(heads.front().size(), 0.0f);
    for (const auto& head : heads)
        for (size_t i = 0; i < mean.size(); ++i) mean[i] += head[i] / static_cast<float>(heads.size());
    return mean;
}

std::vector<uint8_t> mask_of(const Selection& selection) {
    const int64_t T = selection.indices.dim(1), slots = selection.indices.dim(2);
    std::vector<uint8_t> mask(static_cast<size_t>(T * T), 0);
    for (int64_t t = 0; t < T; ++t)
        for (int64_t i = 0; i < selection.counts.data<int32_t>()[t]; ++i)
            mask[static_cast<size_t>(t * T + selection.indices.data<int32_t>()[t * slots + i])] = 1;
    return mask;
}

std::vector<float> scores_or_blank(const Tensor& scores) {
    std::vector<float> values = scores.to_vector<float>();
    for (float& v : values)
        if (v == -std::numeric_limits<float>::infinity()) v = blank;
    return values;
}

// The indexer's score is a sum over its heads: with the other heads' weights at zero, one head's share is
// left.
std::vector<std::vector<float>> scores_by_head(const IndexerProjections& p, double scale) {
    const int64_t rows = p.w.dim(0) * p.w.dim(1), heads = p.w.dim(2);
    std::vector<std::vector<float>> result;
    for (int64_t j = 0; j < heads; ++j) {
        const Tensor only = Tensor::zeros(p.w.shape());
        for (int64_t r = 0; r < rows; ++r)
            only.data<float>()[r * heads + j] = p.w.data<float>()[r * heads + j];
        result.push_back(scores_or_blank(indexer_scores(p.q, p.k, only, scale)));
    }
    return result;
}

AttentionPattern pattern_of(const AttentionTrace& t, int64_t layer, const IndexerConfig& indexer,
                            bool sparse) {
    const int64_t T = t.q.dim(2);
    AttentionPattern pattern{.layer = layer, .tokens = T, .top_k = indexer.top_k};
    if (sparse) {
        pattern.selected = mask_of(t.selection);
        pattern.scores =
            scores_or_blank(indexer_scores(t.indexer.q, t.indexer.k, t.indexer.w, indexer.scale));
        pattern.head_scores = scores_by_head(t.indexer, indexer.scale);
    }
    const auto reads = [&](int64_t i, int64_t s) {
        return !sparse || pattern.selected[static_cast<size_t>(i * T + s)];
    };
    for (int64_t head = 0; head < t.q.dim(1); ++head) pattern.by_head.push_back(head_weights(t, head, reads));
    pattern.weights = mean_of(pattern.by_head);
    return pattern;
}

}  // namespace

std::vector<AttentionPattern> attention_patterns(const Transformer& model, const Tensor& tokens) {
    const NoGrad guard;
    std::vector<AttentionPattern> patterns;
    ForwardOptions options{.logits = false};
    options.observe = [&](int64_t layer, const AttentionTrace& trace) {
        patterns.push_back(
            pattern_of(trace, layer, indexer_config(model.config(), layer), model.config().is_sparse()));
    };
    model.forward(tokens, options);
    return patterns;
}

namespace {

void add_selection(const Selection& selection, int64_t top_k, SelectionStatistics& into) {
    const int64_t T = selection.indices.dim(1), slots = selection.indices.dim(2);
    std::vector<bool> used(static_cast<size_t>(T), false);
    int64_t read = 0;
    for (int64_t t = 0; t < T; ++t) {
        const int64_t count = selection.counts.data<int32_t>()[t];
        read += count;
        if (t < top_k) continue;  // no choice: every earlier key is read
        for (int64_t i = 0; i < count; ++i) {
            const int64_t s = selection.indices.data<int32_t>()[t * slots + i];
            used[static_cast<size_t>(s)] = true;
            into.distances.push_back(static_cast<double>(t - s));
        }
    }
    const auto triangle = static_cast<double>(T * (T + 1) / 2);
    into.sparsity.push_back(1 - static_cast<double>(read) / triangle);
    if (T > top_k)
        into.coverage.push_back(static_cast<double>(std::count(used.begin(), used.end(), true)) /
                                static_cast<double>(T));
}

}  // namespace

Tensor validation_window(const Dataset& data, int64_t index) {
    const auto count = static_cast<int64_t>(data.windows().validation.size());
    if (index < 0 || index >= count)
        fail_usage(fmt::format("sample: {}, want 0 to {} (the validation windows)", index, count - 1));
    const int64_t batch_size = data.validation(0).tokens.dim(0);
    const int64_t row = index % batch_size;
    return data.validation(index / batch_size).tokens.rows(row, row + 1);
}

std::vector<SelectionStatistics> selection_statistics(const Transformer& model, const Dataset& data,
                                                      int64_t samples) {
    const NoGrad guard;
    std::vector<SelectionStatistics> layers(static_cast<size_t>(model.config().n_layers));
    ForwardOptions options{.stage = AttentionStage::dense, .logits = false};
    options.observe = [&](int64_t layer, const AttentionTrace& t) {
        const IndexerConfig indexer = indexer_config(model.config(), layer);
        SelectionStatistics& into = layers[static_cast<size_t>(layer)];
        into.layer = layer;
        const Selection selection =
            indexer_select(t.indexer.q, t.indexer.k, t.indexer.w, indexer.scale, indexer.top_k);
        const IndexerQuality quality = indexer_quality(t.q, t.k, t.lse, t.scale, selection);
        into.recall.push_back(quality.recall);
        into.covered_mass.push_back(quality.covered_mass);
        add_selection(selection, indexer.top_k, into);
    };
    const auto available = static_cast<int64_t>(data.windows().validation.size());
    for (int64_t i = 0; i < std::min(samples, available); ++i)
        model.forward(validation_window(data, i), options);
    return layers;
}

}  // namespace sieve
