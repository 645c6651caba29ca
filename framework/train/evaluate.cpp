#include "framework/train/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <span>

#include "framework/attention/scores/head_overlap.h"
#include "framework/attention/scores/tied_scores.h"
#include "framework/attention/selection/selection_recall.h"
#include "framework/autograd/autograd.h"
#include "framework/core/core_share.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
#include "framework/ops/indexer_kl/indexer_kl.h"
#include "framework/ops/indexer_quality/indexer_quality.h"
#include "framework/train/non_finite.h"

namespace sieve {

namespace {

// `read` entries out of `layers` squares or triangles.
Sparsity sparsity_of_layers(double seq_len, double layers, double read) {
    return {1 - read / (layers * seq_len * seq_len), 1 - read / (layers * seq_len * (seq_len + 1) / 2)};
}

double entries_read(int64_t seq_len, int64_t top_k) {
    const auto T = static_cast<double>(seq_len), k = static_cast<double>(std::min(seq_len, top_k));
    return k * (k + 1) / 2 + (T - k) * k;
}

}  // namespace

Sparsity sparsity_of(int64_t seq_len, int64_t top_k) {
    return sparsity_of_layers(static_cast<double>(seq_len), 1, entries_read(seq_len, top_k));
}

Sparsity sparsity_of(const ModelConfig& c) {
    double read = 0;
    for (int64_t layer = 0; layer < c.n_layers; ++layer)
        read += entries_read(c.max_seq_len, c.sparse_top_k.of(layer));
    return sparsity_of_layers(static_cast<double>(c.max_seq_len), static_cast<double>(c.n_layers), read);
}

namespace {

// How far a layer's queries select what those of another layer do, the mean over the other layers.
double overlap_with_others(const std::vector<Selection>& layers, size_t layer) {
    double sum = 0;
    for (size_t other = 0; other < layers.size(); ++other)
        if (other != layer) sum += selection_recall(layers[other], layers[layer]);
    return sum / static_cast<double>(layers.size() - 1);
}

// A dense pass: at each layer, what the selector would choose beside what attention really looks at, beside
// what it would choose in float32, and beside what it chooses elsewhere.
void judge_selections(const Transformer& model, const Tensor& tokens, std::vector<Measurement>& layers) {
    ForwardOptions options{.stage = AttentionStage::dense, .logits = false};
    std::vector<Selection> selections;
    options.observe = [&](int64_t layer, const AttentionTrace& t) {
        Measurement& m = layers[static_cast<size_t>(layer)];
        const Selection selection = t.select();
        const IndexerQuality quality = indexer_quality(t.main_attention(), selection);
        m["indexer_recall"] = quality.recall;
        m["indexer_covered_mass"] = quality.covered_mass;
        m["indexer_chance"] = quality.chance;
        m["indexer_oracle_mass"] = quality.oracle_mass;
        m["indexer_recall_above_chance"] = quality.recall_above_chance();
        m["indexer_mass_above_chance"] = quality.mass_above_chance();
        m["attention_entropy"] = quality.entropy;
        if (const auto unrounded = t.selector->select_unrounded(*t.selector_state))
            m["indexer_precision_recall"] = selection_recall(*unrounded, selection);
        m["indexer_chance_of_choices"] = quality.chance_of_choices;
        m["selection_first_key"] = first_key_share(selection);
        m["selection_query_overlap"] = successive_recall(selection);
        if (const IndexerOperands* indexer = t.indexer_operands()) {
            m["selection_ties"] = tied_share(*indexer, selection);
            const HeadOverlap heads = head_overlap(*indexer, selection);
            m["indexer_heads_overlap"] = heads.above_chance;
            m["indexer_heads_decided"] = heads.decided;
        }
        selections.push_back({selection.indices.to(Device{}), selection.counts.to(Device{})});
    };
    model.forward(tokens, options);
    for (size_t i = 0; i < selections.size(); ++i)
        layers[i]["selection_layer_overlap"] = overlap_with_others(selections, i);
}

// The alignment loss of one layer of the sparse stage, beside that of an indexer whose scores are all equal;
// sums over tokens.
struct Alignment {
    static constexpr double least_kl = 1e-6;  // below it is rounding
    double kl = 0, uniform_kl = 0, tokens = 0;

    void add(const AttentionTrace& t) {
        const int64_t B = t.q.dim(0), T = t.q.dim(2);
        const auto zeros = [&](const Shape& shape) {
            return Tensor::zeros(shape, t.q.dtype(), t.q.device());
        };
        const IndexerOperands knows_nothing{zeros({B, T, 1, 1}), zeros({B, T, 1}), zeros({B, T, 1})};
        const auto n = static_cast<double>(B * T);
        tokens += n;
        kl += n * t.indexer_loss.item();
        uniform_kl += n * indexer_kl_sparse(knows_nothing, t.main_attention(), t.selection).item();
    }
    // NaN where attention itself is uniform: there is nothing to know.
    double captured() const { return uniform_kl > least_kl * tokens ? 1 - kl / uniform_kl : NAN; }
};

// Sums over tokens of the loss at positions below k, and at the others.
struct LossByPosition {
    explicit LossByPosition(const PerLayer& top_k)
        : k(*std::min_element(top_k.values().begin(), top_k.values().end())) {}

    // Of one window.
    void add(std::span<const double> losses) {
        for (size_t t = 0; t < losses.size(); ++t) {
            const bool above = static_cast<int64_t>(t) >= k;
            loss[above] += losses[t];
            tokens[above] += 1;
        }
    }
    double below_k() const { return loss[0] / tokens[0]; }
    double from_k() const { return loss[1] / tokens[1]; }  // of no token NaN

    int64_t k;
    double loss[2] = {}, tokens[2] = {};
};

// Throws Error(diverged): what failed, and which number of the forward on this batch was the first that is
// not finite.
[[noreturn]] void fail_diverged(const Transformer& model, ForwardOptions options, const Tensor& tokens,
                                const std::string& symptom) {
    std::optional<std::string> found = non_finite_weight(model);
    FiniteWatch watch;
    watch.watch(options);
    if (!found) found = first_non_finite(watch, [&] { model.forward(tokens, options); });
    throw Error(ErrorKind::diverged, fmt::format("{}: {}", symptom, found.value_or("its numbers overflow")));
}

// A forward whose NaN scores, should it have some, are traced back to where they came from.
ModelOutput forward(const Transformer& model, const Tensor& tokens, const ForwardOptions& options) {
    try {
        return model.forward(tokens, options);
    } catch (const Error& e) {
        if (e.kind() != ErrorKind::diverged) throw;
        fail_diverged(model, options, tokens, "the validation has no loss");
    }
}

// Sums over validation targets.
struct Scores {
    double loss = 0;  // nats
    int64_t right = 0, targets = 0;

    void add(const TokenPredictions& scored, int64_t count) {
        loss += scored.total_loss;
        right += scored.correct;
        targets += count;
    }
    double mean_loss() const { return loss / static_cast<double>(targets); }  // NaN without targets
};

// Scores a batch, and adds its windows to their sources and all tokens to their positions.
void score_batch(const Tensor& logits, const Tensor& targets, std::span<const int64_t> sources, Scores& all,
                 std::vector<Scores>& by_source, LossByPosition& by_position) {
    const auto length = static_cast<size_t>(targets.dim(1));
    const TokenPredictions scored = score_predictions(logits, targets.alias({targets.numel()}));
    all.add(scored, targets.numel());
    const std::vector<double> losses = scored.losses.to(Device{}).to(DType::float64).to_vector<double>();
    for (size_t b = 0; b * length < losses.size(); ++b) {
        const std::span<const double> window = std::span(losses).subspan(b * length, length);
        by_position.add(window);
        if (sources.empty()) continue;
        Scores& source = by_source[static_cast<size_t>(sources[b])];
        source.loss += std::accumulate(window.begin(), window.end(), 0.0);
        source.targets += std::ssize(window);
    }
}

// Scores the answers to the questions in a batch's windows (none in a text).
void score_answers(const Tensor& logits, const Batch& batch, const Dataset& data, Scores& answers) {
    const int64_t length = batch.tokens.dim(1);
    for (int64_t b = 0; b < batch.tokens.dim(0); ++b) {
        const int32_t* window = batch.tokens.data<int32_t>() + b * length;
        for (const int64_t t : data.questions({window, static_cast<size_t>(length)})) {
            const int64_t row = b * length + t;
            const Tensor target = batch.targets.alias({batch.targets.numel()}).rows(row, row + 1);
            answers.add(score_predictions(logits.rows(row, row + 1), target.to(logits.device())), 1);
        }
    }
}

}  // namespace

Measurement evaluate(const Transformer& model, const Dataset& data, int64_t batches) {
    const NoGrad guard;
    const int64_t available = data.validation_batches();
    const int64_t count = batches == 0 ? available : std::min(batches, available);
    const bool sparse = model.config().is_sparse();
    const Device device = model.device();
    std::vector<Alignment> alignment(static_cast<size_t>(model.config().n_layers));
    ForwardOptions options{.indexer_loss = sparse};
    options.observe = [&](int64_t layer, const AttentionTrace& t) {
        if (t.indexer_loss.defined()) alignment[static_cast<size_t>(layer)].add(t);
    };
    LossByPosition by_position(model.config().sparse_top_k);
    Scores all, answers;
    std::vector<Scores> by_source(data.sources().size());
    int64_t bytes = 0;
    double indexer_kl = 0;
    for (int64_t i = 0; i < count; ++i) {
        share_cores();
        const Batch batch = data.validation(i);
        const Tensor tokens = batch.tokens.to(device);
        const ModelOutput out = forward(model, tokens, options);
        score_batch(out.logits, batch.targets.to(device), data.validation_sources(i), all, by_source,
                    by_position);
        score_answers(out.logits, batch, data, answers);
        if (!std::isfinite(all.loss))
            fail_diverged(model, options, tokens,
                          fmt::format("the validation loss is {}", text_of_number(all.loss)));
        const int64_t targets = batch.targets.numel();
        bytes += data.tokenizer().text_bytes({batch.targets.data<int32_t>(), static_cast<size_t>(targets)});
        // A mean over its batch, and the last batch may be smaller.
        if (out.indexer_loss.defined()) indexer_kl += out.indexer_loss.item() * static_cast<double>(targets);
    }
    Measurement result;
    result["val_loss"] = all.mean_loss();
    std::vector<double> source_losses;
    source_losses.reserve(by_source.size());
    for (const Scores& source : by_source) source_losses.push_back(source.mean_loss());
    if (!by_source.empty()) result.set_sources("val_loss", source_losses);
    result["val_accuracy"] = static_cast<double>(all.right) / static_cast<double>(all.targets);
    if (answers.targets > 0)
        result["answer_accuracy"] = static_cast<double>(answers.right) / static_cast<double>(answers.targets);
    result["val_perplexity"] = std::exp(result["val_loss"]);
    if (bytes > 0) result["val_bits_per_byte"] = all.loss / (std::numbers::ln2 * static_cast<double>(bytes));
    result["val_loss_below_k"] = by_position.below_k();
    result["val_loss_from_k"] = by_position.from_k();
    if (!sparse) return result;
    std::vector<Measurement> layers(alignment.size());
    judge_selections(model, data.validation(0).tokens.to(device), layers);
    for (size_t i = 0; i < layers.size() && model.config().has_indexer(); ++i) {
        layers[i]["indexer_kl"] = alignment[i].kl / static_cast<double>(all.targets);
        layers[i]["indexer_captured"] = alignment[i].captured();
    }
    result.add(measurement_of_layers(layers));
    // As training means it, not as the layers' numbers round.
    if (model.config().has_indexer()) result["indexer_kl"] = indexer_kl / static_cast<double>(all.targets);
    return result;
}

}  // namespace sieve
