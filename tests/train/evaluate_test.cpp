// The numbers that an evaluation and a training report, against sums written out: from the model's logits,
// and from the queries and keys of each layer, in float64.
#include "framework/train/evaluate.h"

#include <cmath>
#include <numeric>

#include "framework/attention/scores/head_overlap.h"
#include "framework/autograd/autograd.h"
#include "framework/io/atomic_file.h"
#include "framework/train/metrics_log.h"
#include "framework/train/trainer.h"
#include "tests/ops/indexer_oracle.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

constexpr int64_t length = 24, vocabulary = 300, batch_rows = 5, top_k = 6;

// Validation windows: a whole batch or two, and a smaller one.
const Dataset& short_text() {
    static const Dataset data = load_dataset({.data = testing::source_dir() + "/data/excerpt",
                                              .vocab_size = static_cast<int>(vocabulary),
                                              .max_tokens = 3000,
                                              .cache_dir = "",
                                              .seq_len = length,
                                              .batch_size = batch_rows});
    return data;
}

ExperimentConfig tiny(AttentionKind attention) {
    ExperimentConfig c;
    c.model.attention = attention;
    c.model.vocab_size = vocabulary, c.model.max_seq_len = length;
    c.model.d_model = 32, c.model.n_heads = 2, c.model.n_layers = 2, c.model.d_ff = 48;
    c.model.num_experts = 2, c.model.expert_top_k = 1, c.model.dropout = c.model.router_noise = 0.1;
    c.model.indexer_heads = 2, c.model.indexer_dim = 8, c.model.sparse_top_k = top_k;
    c.batch_size = batch_rows;
    c.classic_steps = c.sparse_steps = 11, c.warmup_steps = 3;
    c.eval_every = 4, c.eval_batches = 2, c.checkpoint_every = 50;
    return c;
}

// Weights so large that neither attention nor the loss is nearly uniform.
const ParameterInit lively{.std = 0.3};

double entry(const Tensor& t, int64_t at) {
    return static_cast<double>(t.data<float>()[at]);
}

// What is added up over rows of logits.
struct Scores {
    double loss = 0;
    int64_t right = 0, tokens = 0, bytes = 0;
};

void add_rows(const Tensor& logits, const Tensor& targets, const Tokenizer& tokenizer, Scores& scores) {
    for (int64_t row = 0; row < targets.numel(); ++row) {
        const int64_t first = row * vocabulary;
        double sum = 0;
        int64_t best = 0;
        for (int64_t v = 0; v < vocabulary; ++v) {
            sum += std::exp(entry(logits, first + v));
            if (entry(logits, first + v) > entry(logits, first + best)) best = v;
        }
        const int32_t target = targets.data<int32_t>()[row];
        scores.loss += std::log(sum) - entry(logits, first + target);
        scores.right += best == target;
        ++scores.tokens;
        const std::string text = tokenizer.decode({&target, 1});
        if (text != end_of_text) scores.bytes += std::ssize(text);
    }
}

// p[s] of query t over `keys`: the mean over heads of softmax(scale q.k).
std::vector<double> attention_of(const AttentionTrace& trace, int64_t b, int64_t t,
                                 const std::vector<int32_t>& keys) {
    AttentionInput in{trace.q.to(DType::float64), trace.k.to(DType::float64), {}, trace.scale};
    const int64_t heads = in.q.dim(1);
    std::vector<double> mean(keys.size(), 0.0);
    for (int64_t h = 0; h < heads; ++h) {
        std::vector<double> e;
        for (const int32_t s : keys) e.push_back(std::exp(oracle_logit(in, b, h, t, s)));
        const double sum = std::accumulate(e.begin(), e.end(), 0.0);
        for (size_t i = 0; i < e.size(); ++i) mean[i] += e[i] / sum / static_cast<double>(heads);
    }
    return mean;
}

// The sum over rows of KL(attention || softmax of the indexer's scores), both over the selected keys.
double kl_of_layer(const AttentionTrace& trace) {
    const IndexerOperands& operands = *trace.indexer_operands();
    const IndexerInput indexer{operands.q.to(DType::float64), operands.k.to(DType::float64),
                               operands.w.to(DType::float64)};
    double kl = 0;
    for (int64_t b = 0; b < trace.q.dim(0); ++b)
        for (int64_t t = 0; t < length; ++t) {
            const std::vector<int32_t> keys = chosen(trace.selection, b, t);
            const std::vector<double> p = attention_of(trace, b, t, keys);
            std::vector<double> scores;
            for (const int32_t s : keys) scores.push_back(oracle_score(indexer, operands.scale, b, t, s));
            double sum = 0;
            for (const double score : scores) sum += std::exp(score);
            for (size_t i = 0; i < keys.size(); ++i)
                kl += p[i] * (std::log(p[i]) - (scores[i] - std::log(sum)));
        }
    return kl;
}

// The sum over rows of KL(attention || uniform), both over the selected keys: log n less attention's entropy.
double uniform_kl_of_layer(const AttentionTrace& trace) {
    double kl = 0;
    for (int64_t b = 0; b < trace.q.dim(0); ++b)
        for (int64_t t = 0; t < length; ++t) {
            const std::vector<int32_t> keys = chosen(trace.selection, b, t);
            kl += std::log(static_cast<double>(keys.size()));
            for (const double p : attention_of(trace, b, t, keys)) kl += p * std::log(p);
        }
    return kl;
}

// Means over rows; above chance: over the rows that have a choice.
struct Quality {
    double recall = 0, covered = 0, chance = 0, oracle = 0, entropy = 0;
    double recall_above_chance = 0, mass_above_chance = 0;
};

Quality quality_of_layer(const AttentionTrace& trace) {
    const Selection selection = trace.select();
    const auto rows = static_cast<double>(trace.q.dim(0) * length);
    Quality quality, choices;
    for (int64_t b = 0; b < trace.q.dim(0); ++b)
        for (int64_t t = 0; t < length; ++t) {
            std::vector<int32_t> all(static_cast<size_t>(t + 1));
            std::iota(all.begin(), all.end(), 0);
            const std::vector<double> p = attention_of(trace, b, t, all);
            const std::vector<int32_t> keys = chosen(selection, b, t),
                                       best = oracle_top(p.data(), t + 1, top_k);
            Quality row;
            for (const int32_t s : keys) {
                row.recall += static_cast<double>(std::count(best.begin(), best.end(), s)) /
                              static_cast<double>(keys.size());
                row.covered += p[static_cast<size_t>(s)];
            }
            for (const int32_t s : best) row.oracle += p[static_cast<size_t>(s)];
            row.chance = std::min(1.0, static_cast<double>(top_k) / static_cast<double>(t + 1));
            for (const double share : p) quality.entropy -= share * std::log(share) / rows;
            for (double Quality::*part :
                 {&Quality::recall, &Quality::covered, &Quality::oracle, &Quality::chance}) {
                quality.*part += row.*part / rows;
                if (t >= top_k) choices.*part += row.*part;
            }
        }
    const double count = static_cast<double>(trace.q.dim(0) * (length - top_k));
    quality.recall_above_chance = (choices.recall - choices.chance) / (count - choices.chance);
    quality.mass_above_chance = (choices.covered - choices.chance) / (choices.oracle - choices.chance);
    return quality;
}

}  // namespace

TEST_CASE("evaluate: loss, accuracy and perplexity are those of all tokens, also of a smaller last batch") {
    const Dataset& data = short_text();
    REQUIRE(data.validation_batches() >= 2);
    REQUIRE(data.validation(data.validation_batches() - 1).tokens.dim(0) < batch_rows);
    const NoGrad guard;
    for (const AttentionKind attention : {AttentionKind::classic, AttentionKind::sparse}) {
        const Transformer model(tiny(attention).model, lively);
        for (const int64_t batches : {int64_t{1}, int64_t{0}}) {
            INFO(name_of(attention) << ", " << batches << " batches (0: all)");
            Scores scores;
            double kl = 0;
            std::vector<double> layer_kl(2), layer_uniform_kl(2);
            for (int64_t i = 0; i < (batches ? batches : data.validation_batches()); ++i) {
                const Batch batch = data.validation(i);
                ForwardOptions options;
                if (model.config().is_sparse())
                    options.observe = [&](int64_t layer, const AttentionTrace& t) {
                        layer_kl[static_cast<size_t>(layer)] += kl_of_layer(t);
                        layer_uniform_kl[static_cast<size_t>(layer)] += uniform_kl_of_layer(t);
                    };
                add_rows(model.forward(batch.tokens, options).logits, batch.targets, data.tokenizer(),
                         scores);
            }
            const Measurement e = evaluate(model, data, batches);
            const double tokens = static_cast<double>(scores.tokens), loss = scores.loss / tokens;
            if (batches == 0) CHECK(scores.right > 0);
            CHECK(e["val_loss"] == doctest::Approx(loss).epsilon(1e-6));
            CHECK(e["val_accuracy"] == static_cast<double>(scores.right) / tokens);
            CHECK(e["val_perplexity"] == doctest::Approx(std::exp(loss)).epsilon(1e-5));
            CHECK(e["val_bits_per_byte"] ==
                  doctest::Approx(scores.loss / std::log(2.0) / static_cast<double>(scores.bytes))
                      .epsilon(1e-6));
            if (!model.config().is_sparse()) {
                for (const MetricKey metric : all_metrics())
                    if (metric->sparse_only) CHECK(std::isnan(e[metric]));
                continue;
            }
            REQUIRE(e.layers("indexer_captured").size() == 2);
            for (size_t l = 0; l < 2; ++l) {
                CHECK(e.layers("indexer_kl")[l] == doctest::Approx(layer_kl[l] / tokens).epsilon(1e-4));
                CHECK(e.layers("indexer_captured")[l] ==
                      doctest::Approx(1 - layer_kl[l] / layer_uniform_kl[l]).epsilon(1e-4));
                kl += layer_kl[l] / (2 * tokens);
            }
            CHECK(kl > 0.01);
            CHECK(e["indexer_kl"] == doctest::Approx(kl).epsilon(1e-4));
        }
    }
}

TEST_CASE("evaluate: right answers are those to the questions of the recall task alone") {
    const Dataset data = load_dataset({.task = Task::recall,
                                       .recall_pairs = 3,
                                       .max_tokens = 6000,
                                       .cache_dir = "",
                                       .seq_len = length,
                                       .batch_size = batch_rows});
    ExperimentConfig c = tiny(AttentionKind::classic);
    c.model.vocab_size = 257;
    const NoGrad guard;
    const Transformer model(c.model, lively);
    int64_t right = 0, asked = 0;
    for (int64_t i = 0; i < data.validation_batches(); ++i) {
        const Batch batch = data.validation(i);
        const Tensor logits = model.forward(batch.tokens, {}).logits;
        for (int64_t row = 0; row < batch.tokens.dim(0); ++row) {
            const std::string text =
                data.tokenizer().decode(batch.tokens.rows(row, row + 1).to_vector<int32_t>());
            for (int64_t t = length / 2; t < length / 2 + 2 * 3; t += 2) {  // three keys, each asked once
                const float* scores = logits.data<float>() + (row * length + t) * 257;
                const auto best = static_cast<int32_t>(std::max_element(scores, scores + 257) - scores);
                right += data.tokenizer().token_bytes(best) == text.substr(static_cast<size_t>(t) + 1, 1);
                ++asked;
            }
        }
    }
    CHECK(asked > 30);
    CHECK(evaluate(model, data, 0)["answer_accuracy"] ==
          static_cast<double>(right) / static_cast<double>(asked));
    CHECK(short_text().questions(short_text().validation(0).tokens.rows(0, 1).to_vector<int32_t>()).empty());
}

TEST_CASE("evaluate: the loss of each source is that of its windows") {
    const TemporaryFolder folder;
    const std::string text = read_file(testing::source_dir() + "/data/excerpt/persuasion.txt");
    make_folder(folder / "text");
    write_file_atomic(folder / "text/a.txt", text.substr(0, 9000));
    write_file_atomic(folder / "text/b.txt", text.substr(9000, 12000));
    const Dataset data = load_dataset({.data = folder / "text",
                                       .vocab_size = static_cast<int>(vocabulary),
                                       .cache_dir = "",
                                       .seq_len = length,
                                       .batch_size = batch_rows});
    const NoGrad guard;
    const Transformer model(tiny(AttentionKind::classic).model, lively);
    std::vector<Scores> by_source(2);
    for (int64_t i = 0; i < data.validation_batches(); ++i) {
        const Batch batch = data.validation(i);
        const Tensor logits = model.forward(batch.tokens, {}).logits;
        for (int64_t row = 0; row < batch.tokens.dim(0); ++row)
            add_rows(logits.rows(row * length, (row + 1) * length),
                     batch.targets.rows(row, row + 1).alias({length}), data.tokenizer(),
                     by_source[static_cast<size_t>(data.validation_sources(i)[static_cast<size_t>(row)])]);
    }
    const Measurement e = evaluate(model, data, 0);
    REQUIRE(e.layers("val_loss").size() == 2);
    for (size_t s = 0; s < 2; ++s) {
        REQUIRE(by_source[s].tokens > 0);
        CHECK(e.layers("val_loss")[s] ==
              doctest::Approx(by_source[s].loss / static_cast<double>(by_source[s].tokens)).epsilon(1e-6));
    }
    const Scores &a = by_source[0], &b = by_source[1];
    CHECK(e["val_loss"] == doctest::Approx((a.loss + b.loss) / static_cast<double>(a.tokens + b.tokens)));
}

// A model that gives every token the same probability spends log2(vocabulary) bits on each. The end of a
// document is spent on, and stands for no text.
TEST_CASE("evaluate: bits per byte of equal logits, worked out by hand, for two vocabularies") {
    const TemporaryFolder folder;
    std::string text;
    for (unsigned i = 0; i < 64; ++i) {  // 12 bytes each
        for (unsigned bit = 0; bit < 6; ++bit) text += (i >> bit & 1) != 0 ? "ab" : "cd";
        text += end_of_text;
    }
    write_file_atomic(folder / "t.txt", text);
    // A window is a document with its end; its targets are all of it but the first token.
    const auto check = [&](int vocab_size, int64_t seq_len, double targets, double bytes) {
        INFO(vocab_size);
        Tokenizer::train("ab\nab\nab\ncd\ncd", vocab_size).save(folder / "t.json");
        const Dataset data = load_dataset({.data = folder / "t.txt",
                                           .tokenizer = folder / "t.json",
                                           .cache_dir = "",
                                           .seq_len = seq_len,
                                           .batch_size = batch_rows});
        REQUIRE(data.tokenizer().vocab_size() == vocab_size);
        ExperimentConfig c = tiny(AttentionKind::classic);
        c.model.vocab_size = vocab_size;
        const Transformer model(c.model, {.std = 1e-12});
        CHECK(evaluate(model, data, 0)["val_bits_per_byte"] ==
              doctest::Approx(targets / bytes * std::log2(vocab_size)).epsilon(1e-5));
    };
    check(257, 12, 12, 11);  // bytes
    check(259, 6, 6, 10);    // and the tokens "ab" and "cd"
}

TEST_CASE("evaluate: recall and covered mass by layer, of the dense stage on the first batch") {
    const Dataset& data = short_text();
    const NoGrad guard;
    const Transformer model(tiny(AttentionKind::sparse).model, lively);
    std::vector<Quality> layers;
    ForwardOptions options{.stage = AttentionStage::dense, .logits = false};
    options.observe = [&](int64_t, const AttentionTrace& t) { layers.push_back(quality_of_layer(t)); };
    model.forward(data.validation(0).tokens, options);
    const Measurement e = evaluate(model, data, 1);
    REQUIRE(layers.size() == 2);
    for (size_t i = 0; i < layers.size(); ++i) {
        CHECK(layers[i].recall < 0.95);
        CHECK(layers[i].covered < 0.95);
        CHECK(e.layers("indexer_recall")[i] == doctest::Approx(layers[i].recall).epsilon(1e-9));
        CHECK(e.layers("indexer_covered_mass")[i] == doctest::Approx(layers[i].covered).epsilon(1e-5));
        CHECK(e.layers("indexer_chance")[i] == doctest::Approx(layers[i].chance).epsilon(1e-12));
        CHECK(e.layers("indexer_oracle_mass")[i] == doctest::Approx(layers[i].oracle).epsilon(1e-5));
        CHECK(e.layers("attention_entropy")[i] == doctest::Approx(layers[i].entropy).epsilon(1e-5));
        CHECK(e.layers("indexer_recall_above_chance")[i] ==
              doctest::Approx(layers[i].recall_above_chance).epsilon(1e-9));
        CHECK(e.layers("indexer_mass_above_chance")[i] ==
              doctest::Approx(layers[i].mass_above_chance).epsilon(1e-4));
    }
    CHECK(e["indexer_recall"] == doctest::Approx((layers[0].recall + layers[1].recall) / 2));
    CHECK(e["indexer_covered_mass"] == doctest::Approx((layers[0].covered + layers[1].covered) / 2));
}

namespace {

// Of the keys `of`, the share among `keys`.
double share_in(const std::vector<int32_t>& of, const std::vector<int32_t>& keys) {
    double found = 0;
    for (const int32_t s : of) found += static_cast<double>(std::count(keys.begin(), keys.end(), s));
    return found / static_cast<double>(of.size());
}

// The mean over queries with a choice.
template <class Share>
double mean_over_choices(const Share& share) {
    double sum = 0;
    for (int64_t b = 0; b < batch_rows; ++b)
        for (int64_t t = top_k; t < length; ++t) sum += share(b, t);
    return sum / static_cast<double>(batch_rows * (length - top_k));
}

double tied_share_of_layer(const AttentionTrace& trace, const Selection& selection) {
    const IndexerOperands& operands = *trace.indexer_operands();
    const IndexerInput indexer{operands.q.to(DType::float64), operands.k.to(DType::float64),
                               operands.w.to(DType::float64)};
    return mean_over_choices([&](int64_t b, int64_t t) {
        std::vector<double> scores;
        for (const int32_t s : chosen(selection, b, t))
            scores.push_back(oracle_score(indexer, operands.scale, b, t, s));
        double tied = 0;
        for (const double score : scores) tied += std::count(scores.begin(), scores.end(), score) > 1;
        return tied / static_cast<double>(scores.size());
    });
}

}  // namespace

TEST_CASE("evaluate: what selections repeat, by layer, on the first batch") {
    const NoGrad guard;
    ExperimentConfig config = tiny(AttentionKind::sparse);
    config.model.n_layers = 3;
    const Transformer model(config.model, lively);
    std::vector<Selection> selections;
    std::vector<double> ties;
    std::vector<HeadOverlap> heads;
    ForwardOptions options{.stage = AttentionStage::dense, .logits = false};
    options.observe = [&](int64_t, const AttentionTrace& t) {
        selections.push_back(t.select());
        heads.push_back(head_overlap(*t.indexer_operands(), selections.back()));
        ties.push_back(tied_share_of_layer(t, selections.back()));
    };
    model.forward(short_text().validation(0).tokens, options);
    const Measurement e = evaluate(model, short_text(), 1);
    CHECK(*std::max_element(ties.begin(), ties.end()) > 0.01);
    for (size_t l = 0; l < 3; ++l) {
        const auto keys = [&](int64_t b, int64_t t) { return chosen(selections[l], b, t); };
        const auto overlap_with = [&](size_t other) {
            return mean_over_choices(
                [&](int64_t b, int64_t t) { return share_in(chosen(selections[other], b, t), keys(b, t)); });
        };
        const auto check = [&](MetricKey metric, double want) {
            INFO(metric->name << ", layer " << l);
            CHECK(e.layers(metric)[l] == doctest::Approx(want).epsilon(1e-9));
        };
        check("selection_ties", ties[l]);
        CHECK(heads[l].above_chance < 0.9);
        CHECK(heads[l].decided < 0.99);
        check("indexer_heads_overlap", heads[l].above_chance);
        check("indexer_heads_decided", heads[l].decided);
        check("selection_first_key",
              mean_over_choices([&](int64_t b, int64_t t) { return share_in({0}, keys(b, t)); }));
        check("selection_query_overlap",
              mean_over_choices([&](int64_t b, int64_t t) { return share_in(keys(b, t - 1), keys(b, t)); }));
        check("selection_layer_overlap", (overlap_with((l + 1) % 3) + overlap_with((l + 2) % 3)) / 2);
        check("indexer_chance_of_choices", mean_over_choices([](int64_t, int64_t t) {
                  return static_cast<double>(top_k) / static_cast<double>(t + 1);
              }));
    }
}

TEST_CASE("evaluate: the loss below k and from k on, of both variants") {
    const Dataset& data = short_text();
    const NoGrad guard;
    for (const AttentionKind attention : {AttentionKind::classic, AttentionKind::sparse}) {
        ExperimentConfig config = tiny(attention);
        config.model.sparse_top_k = PerLayer({top_k + 5, top_k});
        const Transformer model(config.model, lively);
        Scores below, above;
        for (int64_t i = 0; i < data.validation_batches(); ++i) {
            const Batch batch = data.validation(i);
            const Tensor logits = model.forward(batch.tokens, {}).logits,
                         targets = batch.targets.alias({batch.targets.numel()});
            for (int64_t row = 0; row < targets.numel(); ++row)
                add_rows(logits.rows(row, row + 1), targets.rows(row, row + 1), data.tokenizer(),
                         row % length < top_k ? below : above);
        }
        const Measurement e = evaluate(model, data, 0);
        const auto tokens = [](const Scores& s) { return static_cast<double>(s.tokens); };
        CHECK(e["val_loss_below_k"] == doctest::Approx(below.loss / tokens(below)).epsilon(1e-6));
        CHECK(e["val_loss_from_k"] == doctest::Approx(above.loss / tokens(above)).epsilon(1e-6));
        CHECK(std::abs(e["val_loss_below_k"] - e["val_loss_from_k"]) > 1e-4);
    }
}

// A layer without a choice has nothing above chance, and takes no part in the mean over layers.
TEST_CASE("evaluate: k of all keys in one layer, in every layer") {
    const NoGrad guard;
    ExperimentConfig config = tiny(AttentionKind::sparse);
    config.model.sparse_top_k = PerLayer({length + 3, 2});
    const Measurement one = evaluate(Transformer(config.model, lively), short_text(), 1);
    CHECK(std::isnan(one.layers("indexer_recall_above_chance")[0]));
    CHECK(one["indexer_recall_above_chance"] == one.layers("indexer_recall_above_chance")[1]);
    CHECK(one.layers("indexer_chance")[0] == 1);
    config.model.sparse_top_k = length;
    const Measurement none = evaluate(Transformer(config.model, lively), short_text(), 1);
    CHECK(std::isnan(none["indexer_recall_above_chance"]));
    CHECK(std::isnan(none["indexer_mass_above_chance"]));
    CHECK(none.layers("indexer_mass_above_chance").empty());
    CHECK(none["indexer_recall"] == 1);
    CHECK(none["indexer_oracle_mass"] == 1);
    CHECK(none["indexer_captured"] < 1);
    CHECK(std::isnan(none["selection_ties"]));
    CHECK(std::isnan(none["selection_query_overlap"]));
    CHECK(std::isnan(none["val_loss_from_k"]));
    CHECK(none["val_loss_below_k"] == doctest::Approx(none["val_loss"]).epsilon(1e-6));
}

TEST_CASE("evaluate: one head has no overlap, and the KL is the selected keys' whatever training's is") {
    const NoGrad guard;
    ExperimentConfig config = tiny(AttentionKind::sparse);
    const double kl = evaluate(Transformer(config.model, lively), short_text(), 1)["indexer_kl"];
    config.model.indexer_loss = IndexerLoss::full_row;
    CHECK(evaluate(Transformer(config.model, lively), short_text(), 1)["indexer_kl"] == kl);
    config.model.indexer_heads = 1;
    const Measurement one = evaluate(Transformer(config.model, lively), short_text(), 1);
    CHECK((std::isnan(one["indexer_heads_overlap"]) && std::isnan(one["indexer_heads_decided"])));
    CHECK(one.layers("indexer_heads_overlap").empty());
}

TEST_CASE("evaluate: a selector without an indexer is judged, but has no KL") {
    const NoGrad guard;
    ExperimentConfig config = tiny(AttentionKind::sparse);
    config.model.selector = "recent";
    const Measurement e = evaluate(Transformer(config.model, lively), short_text(), 1);
    CHECK(std::isnan(e["indexer_kl"]));
    CHECK(std::isnan(e["indexer_captured"]));
    CHECK(std::isnan(e["indexer_heads_overlap"]));
    CHECK(std::isfinite(e["indexer_recall_above_chance"]));
    CHECK(e["indexer_chance"] < 1);
}

namespace {

struct Reported {
    TrainingHistory history;
    std::vector<MetricsRow> log;
};

// Stops after `stop` steps and goes on; 0: in one piece.
Reported train_in(const std::string& folder, const ExperimentConfig& config, int64_t stop) {
    Reported reported;
    for (const bool resumed : {false, true}) {
        if (resumed && stop == 0) break;
        const Transformer model(config.model, lively);
        int64_t left = resumed ? 0 : stop;
        train({.config = config,
               .data = short_text(),
               .model = model,
               .folder = folder,
               .resume_from = resumed ? folder : "",
               .estimated_step_seconds = {0, 0},
               .quiet = true,
               .stop_wanted = [&] { return --left == 0; }},
              reported.history);
    }
    reported.log = read_metrics(folder);
    return reported;
}

// Of the rows [begin, end) of the log.
double mean_of(const std::vector<MetricsRow>& log, MetricKey metric, size_t begin, size_t end) {
    double sum = 0;
    for (size_t i = begin; i < end; ++i) sum += log[i].numbers[metric];
    return sum / static_cast<double>(end - begin);
}

}  // namespace

// Evaluations after the steps 4, 8 and 11 of the language model's stage; a stop between two of them changes
// nothing.
TEST_CASE("evaluate: what a training reports of its steps, stopped or not") {
    for (const AttentionKind attention : {AttentionKind::classic, AttentionKind::sparse})
        for (const int64_t stop : {0, 6, 9}) {
            INFO(name_of(attention) << ", stopped after " << stop);
            const ExperimentConfig config = tiny(attention);
            const TemporaryFolder folder;
            const Reported r = train_in(folder.path().string(), config, stop);
            const TrainingHistory& h = r.history;
            const size_t warmup = attention == AttentionKind::sparse ? 3 : 0;
            REQUIRE(r.log.size() == warmup + 11);
            REQUIRE(h.steps == std::vector<int64_t>{4, 8, 11});
            size_t begin = warmup;
            for (size_t i = 0; i < 3; ++i) {
                const size_t end = warmup + static_cast<size_t>(h.steps[i]);
                CHECK(h["train_loss"][i] ==
                      doctest::Approx(mean_of(r.log, "loss", begin, end)).epsilon(1e-12));
                CHECK(h["time_per_step"][i] ==
                      doctest::Approx(mean_of(r.log, "seconds", begin, end)).epsilon(1e-9));
                CHECK(h["learning_rate"][i] == r.log[end - 1].numbers["learning_rate"]);
                CHECK(h["grad_norm"][i] == r.log[end - 1].numbers["grad_norm"]);
                begin = end;
            }
            for (const MetricsRow& row : r.log)
                CHECK(row.numbers["tokens_per_second"] * row.numbers["seconds"] ==
                      doctest::Approx(static_cast<double>(batch_rows * length)));
            CHECK(h.training_seconds == doctest::Approx(11 * mean_of(r.log, "seconds", warmup, warmup + 11)));
            CHECK(h.warmup_seconds == doctest::Approx(warmup ? 3 * mean_of(r.log, "seconds", 0, warmup) : 0));
            CHECK(h.total_seconds > h.training_seconds + h.warmup_seconds);
        }
}
