#include "framework/train/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include "framework/attention/selection/selection_recall.h"
#include "framework/autograd/autograd.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
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

// A dense pass: at each layer, what the selector would choose beside what attention really looks at, and
// beside what it would choose in float32.
Measurement judge_selections(const Transformer& model, const Tensor& tokens) {
    std::vector<double> recall, covered_mass, precision_recall;
    ForwardOptions options{.stage = AttentionStage::dense, .logits = false};
    options.observe = [&](int64_t, const AttentionTrace& t) {
        const Selection selection = t.select();
        const IndexerQuality quality = indexer_quality(t.main_attention(), selection);
        recall.push_back(quality.recall);
        covered_mass.push_back(quality.covered_mass);
        if (const auto unrounded = t.selector->select_unrounded(*t.selector_state))
            precision_recall.push_back(selection_recall(*unrounded, selection));
    };
    model.forward(tokens, options);
    Measurement measured;
    measured.set_layers("indexer_recall", recall);
    measured.set_layers("indexer_covered_mass", covered_mass);
    measured.set_layers("indexer_precision_recall", precision_recall);
    return measured;
}

}  // namespace

namespace {

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

// Scores the windows of a batch one by one, and adds each to `all` and to its source's.
void score_windows(const Tensor& logits, const Tensor& targets, std::span<const int64_t> sources, Scores& all,
                   std::vector<Scores>& by_source) {
    const int64_t length = targets.dim(1);
    for (int64_t b = 0; b < targets.dim(0); ++b) {
        const TokenPredictions scored = score_predictions(logits.rows(b * length, (b + 1) * length),
                                                          targets.rows(b, b + 1).alias({length}));
        all.add(scored, length);
        if (!sources.empty())
            by_source[static_cast<size_t>(sources[static_cast<size_t>(b)])].add(scored, length);
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
    Scores all, answers;
    std::vector<Scores> by_source(data.sources().size());
    int64_t bytes = 0;
    double indexer_kl = 0;
    for (int64_t i = 0; i < count; ++i) {
        const Batch batch = data.validation(i);
        const ForwardOptions options{.indexer_loss = sparse};
        const Tensor tokens = batch.tokens.to(device);
        const ModelOutput out = forward(model, tokens, options);
        score_windows(out.logits, batch.targets.to(device), data.validation_sources(i), all, by_source);
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
    if (!sparse) return result;
    if (model.config().has_indexer()) result["indexer_kl"] = indexer_kl / static_cast<double>(all.targets);
    result.add(judge_selections(model, data.validation(0).tokens.to(device)));
    return result;
}

}  // namespace sieve
