#include "framework/report/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/attention/scores/head_overlap.h"
#include "framework/attention/scores/tied_scores.h"
#include "framework/attention/selection/selection_recall.h"
#include "framework/autograd/autograd.h"
#include "framework/core/error.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
#include "framework/ops/indexer_quality/indexer_quality.h"
#include "framework/ops/lightning_indexer/lightning_indexer.h"

namespace sieve {
namespace {

constexpr float blank = std::numeric_limits<float>::quiet_NaN();

// The probabilities of one head over the keys that `reads` names.
template <class Reads>
std::vector<float> head_weights(const AttentionTrace& t, int64_t head, const Reads& reads) {
    const int64_t T = t.q.dim(2), dh = t.q.dim(3);
    const float* q = t.q.data<float>() + head * T * dh;
    const float* k = t.k.data<float>() + head / (t.q.dim(1) / t.k.dim(1)) * T * dh;
    std::vector<float> weights(static_cast<size_t>(T * T), blank);
    std::vector<double> z(static_cast<size_t>(T));
    for (int64_t i = 0; i < T; ++i) {
        double largest = -std::numeric_limits<double>::infinity(), sum = 0;
        for (int64_t s = 0; s <= i; ++s) {
            if (!reads(i, s)) continue;
            double dot = 0;
            for (int64_t c = 0; c < dh; ++c) dot += static_cast<double>(q[i * dh + c]) * k[s * dh + c];
            z[static_cast<size_t>(s)] = t.scale * dot;
            largest = std::max(largest, t.scale * dot);
        }
        for (int64_t s = 0; s <= i; ++s)
            if (reads(i, s)) sum += std::exp(z[static_cast<size_t>(s)] - largest);
        for (int64_t s = 0; s <= i; ++s)
            if (reads(i, s))
                weights[static_cast<size_t>(i * T + s)] =
                    static_cast<float>(std::exp(z[static_cast<size_t>(s)] - largest) / sum);
    }
    return weights;
}

void add_share(const std::vector<float>& head, int64_t heads, std::vector<float>& mean) {
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += head[i] / static_cast<float>(heads);
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
std::vector<std::vector<float>> scores_by_head(const IndexerOperands& p) {
    const int64_t rows = p.w.dim(0) * p.w.dim(1), heads = p.w.dim(2);
    std::vector<std::vector<float>> result;
    for (int64_t j = 0; j < heads; ++j) {
        const Tensor only = Tensor::zeros(p.w.shape());
        for (int64_t r = 0; r < rows; ++r)
            only.data<float>()[r * heads + j] = p.w.data<float>()[r * heads + j];
        result.push_back(scores_or_blank(indexer_scores({p.q, p.k, only, p.scale})));
    }
    return result;
}

AttentionPattern pattern_of(const AttentionTrace& t, int64_t layer, int64_t top_k) {
    const bool sparse = t.selector != nullptr;
    const int64_t heads = t.q.dim(1), T = t.q.dim(2);
    AttentionPattern pattern{.layer = layer, .tokens = T, .top_k = top_k};
    if (sparse) pattern.selected = mask_of(t.selection);
    if (const IndexerOperands* indexer = t.indexer_operands()) {
        pattern.scores = scores_or_blank(indexer_scores(*indexer));
        pattern.head_scores = scores_by_head(*indexer);
    }
    const auto reads = [&](int64_t i, int64_t s) {
        return !sparse || pattern.selected[static_cast<size_t>(i * T + s)];
    };
    pattern.weights.resize(static_cast<size_t>(T * T));
    for (int64_t h = 0; h < heads; ++h) {
        std::vector<float> weights = head_weights(t, h, reads);
        add_share(weights, heads, pattern.weights);
        if (!sparse) pattern.by_head.push_back(std::move(weights));
    }
    return pattern;
}

}  // namespace

AttentionPattern attention_pattern(const Transformer& model, const Tensor& tokens, int64_t layer) {
    const NoGrad guard;
    AttentionPattern pattern;
    ForwardOptions options{.logits = false};
    options.observe = [&](int64_t observed, const AttentionTrace& trace) {
        if (observed == layer) pattern = pattern_of(trace, layer, model.config().sparse_top_k.of(layer));
    };
    model.forward(tokens, options);
    return pattern;
}

// ---- samples

namespace {

// At most `most` characters, the last one "…" where more were there.
std::string shortened(std::string_view text, size_t most) {
    size_t characters = 0, last = 0;
    for (size_t at = 0; at < text.size(); ++at) {
        if ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) continue;  // inside a character of UTF-8
        if (++characters > most) return std::string(text.substr(0, last)) + "…";
        last = at;
    }
    return std::string(text);
}

std::vector<std::string> names_of(const Tokenizer& tokenizer, const Tensor& tokens) {
    std::vector<std::string> names;
    for (const int32_t id : tokens.to_vector<int32_t>())
        names.push_back(shortened(tokenizer.token_text(id), 14));
    return names;
}

std::string on_one_line(std::string_view text) {
    std::string line(text);
    for (char& c : line)
        if (static_cast<unsigned char>(c) < 0x20) c = ' ';
    return line;
}

Batch validation_window(const Dataset& data, int64_t index) {
    const int64_t batch_size = data.validation(0).tokens.dim(0);
    const int64_t row = index % batch_size;
    const Batch batch = data.validation(index / batch_size);
    return {batch.tokens.rows(row, row + 1), batch.targets.rows(row, row + 1)};
}

}  // namespace

TextSample validation_sample(const Dataset& data, int64_t index) {
    const auto count = static_cast<int64_t>(data.windows().validation.size());
    if (index < 0 || index >= count)
        fail_usage(fmt::format("sample: {}, want 0 to {} (the validation windows)", index, count - 1));
    TextSample sample{.tokens = validation_window(data, index).tokens,
                      .what = fmt::format("validation window {}", index)};
    sample.names = names_of(data.tokenizer(), sample.tokens);
    return sample;
}

TextSample text_sample(const Tokenizer& tokenizer, std::string_view text, int64_t longest) {
    std::vector<int32_t> ids = tokenizer.encode(text);
    if (ids.empty()) fail_usage("text: empty, want a text of at least one token");
    const auto all = static_cast<int64_t>(ids.size()), kept = std::min(all, longest);
    ids.resize(static_cast<size_t>(kept));
    TextSample sample{.tokens = Tensor::empty({1, kept}, DType::int32), .left_out = all - kept};
    std::copy(ids.begin(), ids.end(), sample.tokens.data<int32_t>());
    sample.names = names_of(tokenizer, sample.tokens);
    sample.what = fmt::format("text “{}”", shortened(on_one_line(text), 40));
    return sample;
}

// ---- statistics

namespace {

void add_selection(const Selection& selection, int64_t top_k, LayerSelections& into) {
    const int64_t T = selection.indices.dim(1), slots = selection.indices.dim(2);
    std::vector<bool> used(static_cast<size_t>(T), false);
    into.distance_counts.resize(static_cast<size_t>(T));
    int64_t read = 0;
    for (int64_t t = 0; t < T; ++t) {
        const int64_t count = selection.counts.data<int32_t>()[t];
        read += count;
        if (t < top_k) continue;  // no choice: every earlier key is read
        for (int64_t i = 0; i < count; ++i) {
            const int64_t s = selection.indices.data<int32_t>()[t * slots + i];
            used[static_cast<size_t>(s)] = true;
            ++into.distance_counts[static_cast<size_t>(t - s)];
        }
    }
    const int64_t triangle = T * (T + 1) / 2;
    into.sparsity.push_back(1 - static_cast<double>(read) / static_cast<double>(triangle));
    if (T > top_k)
        into.coverage.push_back(static_cast<double>(std::count(used.begin(), used.end(), true)) /
                                static_cast<double>(T));
}

void add_quality(const IndexerQuality& quality, LayerSelections& into) {
    into.recall.push_back(quality.recall);
    into.covered_mass.push_back(quality.covered_mass);
    into.oracle_mass.push_back(quality.oracle_mass);
    into.entropy.push_back(quality.entropy);
    into.chance = quality.chance;
    if (quality.choices == 0) return;
    into.recall_of_choices.push_back(quality.recall_of_choices);
    into.covered_mass_of_choices.push_back(quality.covered_mass_of_choices);
    into.oracle_mass_of_choices.push_back(quality.oracle_mass_of_choices);
    into.recall_above_chance.push_back(quality.recall_above_chance());
    into.mass_above_chance.push_back(quality.mass_above_chance());
    into.chance_of_choices = quality.chance_of_choices;
}

// What a selection with choices repeats.
void add_repetition(const AttentionTrace& t, const Selection& selection, LayerSelections& into) {
    if (const IndexerOperands* indexer = t.indexer_operands()) {
        into.ties.push_back(tied_share(*indexer, selection));
        const double heads = head_overlap(*indexer, selection).above_chance;
        if (!std::isnan(heads)) into.heads_overlap.push_back(heads);
    }
    into.first_key.push_back(first_key_share(selection));
    into.query_overlap.push_back(successive_recall(selection));
}

// A window's share of the means.
void add_overlaps(const std::vector<Selection>& selections, SelectionStatistics& into) {
    const size_t layers = selections.size();
    into.layer_overlap.resize(layers, std::vector<double>(layers, 0.0));
    size_t a = 0;
    for (const Selection& selection : selections) {
        std::vector<double>& row = into.layer_overlap[a++];
        size_t b = 0;
        for (const Selection& reference : selections)
            row[b++] += selection_recall(reference, selection) / static_cast<double>(into.windows);
    }
}

void add_losses(const Transformer& model, const Batch& window, SelectionStatistics& into) {
    const Tensor logits = model.forward(window.tokens, {}).logits;
    const Tensor targets = window.targets.alias({window.targets.numel()});
    const std::vector<float> losses = score_predictions(logits, targets).losses.to_vector<float>();
    into.loss_by_position.resize(losses.size());
    for (size_t t = 0; t < losses.size(); ++t)
        into.loss_by_position[t] += static_cast<double>(losses[t]) / static_cast<double>(into.windows);
}

}  // namespace

SelectionStatistics selection_statistics(const Transformer& model, const Dataset& data, int64_t windows) {
    const NoGrad guard;
    SelectionStatistics result{
        .windows = std::min(windows, static_cast<int64_t>(data.windows().validation.size())),
        .tokens = data.windows().length,
        .top_k = model.config().sparse_top_k};
    result.layers.resize(static_cast<size_t>(model.config().n_layers));
    std::vector<Selection> selections;
    ForwardOptions options{.stage = AttentionStage::dense, .logits = false};
    options.observe = [&](int64_t layer, const AttentionTrace& t) {
        LayerSelections& into = result.layers[static_cast<size_t>(layer)];
        into.layer = layer;
        selections.push_back(t.select());
        const IndexerQuality quality = indexer_quality(t.main_attention(), selections.back());
        add_quality(quality, into);
        if (quality.choices > 0) add_repetition(t, selections.back(), into);
        add_selection(selections.back(), model.config().sparse_top_k.of(layer), into);
    };
    for (int64_t i = 0; i < result.windows; ++i) {
        const Batch window = validation_window(data, i);
        selections.clear();
        model.forward(window.tokens, options);
        add_overlaps(selections, result);
        add_losses(model, window, result);
    }
    return result;
}

}  // namespace sieve
