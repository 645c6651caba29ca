#include "framework/train/trainer.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/io/pt.h"
#include "framework/optim/schedule.h"
#include "framework/train/checkpoint.h"
#include "framework/train/evaluate.h"
#include "framework/train/metrics_log.h"
#include "tests/support/precision_scope.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"
#include "tests/support/tiny_training.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

ExperimentConfig tiny(const std::string& attention) {
    return tiny_config(from_name<AttentionKind>("attention", attention));
}

const Dataset& excerpt() {
    return tiny_data();
}

// DeepSeek-V3.2 in small.
ExperimentConfig tiny_latent(const std::string& attention) {
    return tiny_variants(from_name<AttentionKind>("attention", attention))[2].config;
}

ExperimentConfig tiny_variant(const std::string& attention) {
    return tiny_variants(from_name<AttentionKind>("attention", attention))[1].config;
}

struct Trained {
    TrainingHistory history;
    std::vector<Tensor> weights;
    std::vector<MetricsRow> log;
    bool stopped = false;
};

// Stops after `steps` more steps (0: goes on to the end), and goes on from what an earlier call left when
// `resume`.
Trained train_in(const std::string& folder, const ExperimentConfig& config, bool resume, int64_t steps = 0) {
    const Transformer model(config.model, ParameterInit{});
    Trained result;
    int64_t left = steps;
    const TrainingOutcome outcome = train({.config = config,
                                           .data = excerpt(),
                                           .model = model,
                                           .folder = folder,
                                           .resume_from = resume ? folder : "",
                                           .estimated_step_seconds = {0, 0},
                                           .quiet = true,
                                           .stop_wanted = [&] { return --left == 0; }},
                                          result.history);
    result.stopped = outcome == TrainingOutcome::interrupted;
    for (const NamedTensor& p : model.state()) result.weights.push_back(p.tensor);
    result.log = read_metrics(folder);
    return result;
}

void check_same(const Trained& a, const Trained& b) {
    REQUIRE(a.weights.size() == b.weights.size());
    for (size_t i = 0; i < a.weights.size(); ++i) CHECK(bit_identical(a.weights[i], b.weights[i]));
    CHECK(a.history["step_loss"] == b.history["step_loss"]);
    CHECK(a.history["val_loss"] == b.history["val_loss"]);
    CHECK(a.history["warmup_loss"] == b.history["warmup_loss"]);
    CHECK(a.history.steps == b.history.steps);
    REQUIRE(a.log.size() == b.log.size());
    for (size_t i = 0; i < a.log.size(); ++i) {
        CHECK(a.log[i].stage == b.log[i].stage);
        CHECK(a.log[i].step == b.log[i].step);
        CHECK(a.log[i].numbers["loss"] == b.log[i].numbers["loss"]);
    }
}

}  // namespace

TEST_CASE("training: thirty steps lower the loss, in both variants") {
    for (const char* attention : {"classic", "sparse"}) {
        const TemporaryFolder folder;
        const TrainingHistory h = train_in(folder.path().string(), tiny(attention), false).history;
        REQUIRE(h["step_loss"].size() == 30);
        CHECK(h["step_loss"].back() < h["step_loss"].front() - 0.1);
        CHECK(h["val_loss"].back() < h["val_loss"].front());
        CHECK(h.steps == std::vector<int64_t>{10, 20, 30});
        CHECK(h.peak_memory_bytes > 0);
        for (size_t e = 0; e < 3;
             ++e) {  // each evaluation's training loss is of the steps since the last one
            const auto begin = h["step_loss"].begin() + static_cast<int64_t>(10 * e);
            CHECK(h["train_loss"][e] == doctest::Approx(std::accumulate(begin, begin + 10, 0.0) / 10));
            CHECK(h["learning_rate"][e] == scheduled_learning_rate(h.steps[e] - 1, 30, 3e-3));
        }
        const std::vector<MetricsRow> log = read_metrics(folder.path().string());
        CHECK(log.size() == h["warmup_loss"].size() + h["step_loss"].size());
        double seconds = 0;
        for (const double time_per_step : h["time_per_step"]) seconds += 10 * time_per_step;
        CHECK(seconds == doctest::Approx(h.training_seconds));  // the warm-up's steps are not among them
        CHECK(log.back().numbers["loss"] == h["step_loss"].back());
        CHECK(log.back().numbers["val_loss"] == h["val_loss"].back());
        CHECK(std::isnan(log[log.size() - 2].numbers["val_loss"]));
        if (std::string(attention) == "sparse") {
            CHECK(h["warmup_loss"].size() == 5);
            CHECK(h["indexer_recall"].size() == 3);
            CHECK(log.back().numbers["indexer_recall"] == h["indexer_recall"].back());
            CHECK(log.front().numbers["loss"] == h["warmup_loss"].front());
            for (const double recall : h["indexer_recall"]) CHECK((recall > 0.3 && recall <= 1.0));
        }
    }
}

namespace {

// Of the keys that float32 selects for the rows t >= k, those that `precision` selects too; over all layers.
double shared_keys(const Transformer& model, const Tensor& tokens, IndexerPrecision precision) {
    const NoGrad guard;
    int64_t shared = 0, all = 0;
    ForwardOptions options{.stage = AttentionStage::dense, .logits = false};
    options.observe = [&](int64_t, const AttentionTrace& trace) {
        const IndexerOperands& operands = *trace.indexer_operands();
        const int64_t k = model.config().sparse_top_k.of(0), length = tokens.dim(1);
        const Selection exact = indexer_select(operands, k), rounded = indexer_select(operands, k, precision);
        for (int64_t b = 0; b < tokens.dim(0); ++b)
            for (int64_t t = k; t < length; ++t) {
                const auto row = [&](const Selection& s) {
                    return s.indices.data<int32_t>() + (b * length + t) * k;
                };
                const std::set<int32_t> want(row(exact), row(exact) + k), got(row(rounded), row(rounded) + k);
                for (const int32_t key : want) shared += got.count(key) > 0;
                all += k;
            }
    };
    model.forward(tokens, options);
    return static_cast<double>(shared) / static_cast<double>(all);
}

}  // namespace

TEST_CASE("training: an evaluation says how many of float32's keys a low precision selects") {
    ExperimentConfig config = tiny("sparse");
    for (const IndexerPrecision precision :
         {IndexerPrecision::fp32, IndexerPrecision::fp8, IndexerPrecision::int8}) {
        INFO(name_of(precision));
        config.model.indexer_precision = precision;
        const Transformer model(config.model, ParameterInit{});
        const Measurement e = evaluate(model, excerpt(), 1);
        CHECK(e.layers("indexer_precision_recall").size() == (precision == IndexerPrecision::fp32 ? 0 : 2));
        if (precision == IndexerPrecision::fp32) continue;
        const double want = shared_keys(model, excerpt().validation(0).tokens, precision);
        CHECK(want < 1);
        CHECK(e["indexer_precision_recall"] == doctest::Approx(want));
    }

    config.model.indexer_precision = IndexerPrecision::fp8;
    const TemporaryFolder folder, stopped;
    const Trained whole = train_in(folder.path().string(), config, false);
    const std::vector<double>& recall = whole.history["indexer_precision_recall"];
    CHECK(recall.size() == whole.history.steps.size());
    for (const double share : recall) CHECK((share > 0.7 && share < 1));
    CHECK(whole.log.back().numbers["indexer_precision_recall"] == recall.back());
    CHECK(std::isnan(whole.log[whole.log.size() - 2].numbers["indexer_precision_recall"]));
    train_in(stopped.path().string(), config, false, 22);
    CHECK(train_in(stopped.path().string(), config, true).history["indexer_precision_recall"] == recall);
    CHECK(state_of_history(whole.history).at("indexer_precision_recall") == recall);
    CHECK(!state_of_history(TrainingHistory{}).contains("indexer_precision_recall"));
}

// 60 steps of either variant. Rounding moves single losses like another order of the batches would; tolerance: 2 %
// of what the training gained.
TEST_CASE("training: at bf16 the loss falls as far as in float32") {
    for (const char* attention : {"classic", "sparse"}) {
        ExperimentConfig config = tiny(attention);
        config.classic_steps = config.sparse_steps = 60;
        const TemporaryFolder a, b;
        const Trained exact = train_in(a.path().string(), config, false);
        const PrecisionScope bf16(Precision::bf16);
        const Trained rounded = train_in(b.path().string(), config, false);
        const double start = exact.history["step_loss"].front(), want = exact.history["val_loss"].back(),
                     got = rounded.history["val_loss"].back();
        MESSAGE(std::string(attention) << ": from " << start << " to " << want << ", at bf16 " << got);
        CHECK(want < start - 0.3);
        CHECK(std::abs(got - want) <= 0.02 * (start - want));
        CHECK(got != want);
    }
}

TEST_CASE("training: two runs give the same bits") {
    for (const char* attention : {"classic", "sparse"}) {
        const TemporaryFolder a, b;
        check_same(train_in(a.path().string(), tiny(attention), false),
                   train_in(b.path().string(), tiny(attention), false));
    }
}

namespace {

// Stops `config` after each step (in the quick form after some) and goes on; returns how many stops there
// were.
int64_t check_every_stop(const ExperimentConfig& config) {
    const TemporaryFolder whole;
    const Trained reference = train_in(whole.path().string(), config, false);
    const int64_t all = static_cast<int64_t>(reference.log.size());
    int64_t stops = 0;
    for (int64_t stop = 1; stop < all; stop += full_tests() ? 1 : 7, ++stops) {
        INFO(name_of(config.model.attention)
             << ", " << name_of(config.model.router) << ", " << name_of(config.optimizer)
             << ", stopped after " << stop << " of " << all);
        const TemporaryFolder folder;
        CHECK(train_in(folder.path().string(), config, false, stop).stopped);
        const Trained resumed = train_in(folder.path().string(), config, true);
        CHECK(!resumed.stopped);
        check_same(reference, resumed);
    }
    return stops;
}

}  // namespace

TEST_CASE("training: stopped at any step and resumed, a run gives the bits of one that was never stopped") {
    int64_t stops = 0;
    for (const char* attention : {"classic", "sparse"})
        for (const RouterKind router : {RouterKind::softmax, RouterKind::sigmoid_bias})
            for (const OptimizerKind optimizer : {OptimizerKind::muon, OptimizerKind::adamw}) {
                ExperimentConfig config = tiny(attention);
                config.model.router = router, config.optimizer = optimizer;
                config.eval_every = 7, config.warmup_steps = config.classic_steps = config.sparse_steps = 20;
                stops += check_every_stop(config);
            }
    MESSAGE(stops << " stops, all resumed with the same bits");
}

TEST_CASE("training: the last two checkpoints are kept, and the one before serves when the last is damaged") {
    const ExperimentConfig config = tiny("sparse");  // a checkpoint every 7 steps
    const TemporaryFolder whole, folder;
    const Trained reference = train_in(whole.path().string(), config, false);
    train_in(folder.path().string(), config, false, 20);
    const std::string last = folder / "checkpoint.pt";
    CHECK(read_checkpoint(last).step == 15);  // 5 of the warm-up before it
    CHECK(read_checkpoint(folder / "checkpoint_previous.pt").step == 14);
    std::filesystem::resize_file(last, std::filesystem::file_size(last) / 2);
    check_same(reference, train_in(folder.path().string(), config, true));
    CHECK(!std::filesystem::exists(folder / "checkpoint_next.pt"));
}

// The run is killed in its last evaluation, or at any moment after its last step.
TEST_CASE("training: after the last step nothing but its evaluation is done again") {
    const ExperimentConfig config = tiny("classic");
    const TemporaryFolder folder;
    const Trained reference = train_in(folder.path().string(), config, false);
    const std::string previous = folder / "checkpoint_previous.pt";
    const Checkpoint before = read_checkpoint(previous);
    CHECK(before.step == 30);
    REQUIRE(before.pending.has_value());
    CHECK(before.history.steps == std::vector<int64_t>{10, 20});
    std::filesystem::rename(previous, folder / "checkpoint.pt");
    int64_t steps = 0;
    const Transformer model(config.model, ParameterInit{});
    TrainingHistory history;
    train({.config = config,
           .data = excerpt(),
           .model = model,
           .folder = folder.path().string(),
           .resume_from = folder.path().string(),
           .estimated_step_seconds = {0},
           .quiet = true,
           .stop_wanted = [&] { return ++steps < 0; }},
          history);
    CHECK(steps == 0);
    CHECK(history["val_loss"] == reference.history["val_loss"]);
    CHECK(read_metrics(folder.path().string()).size() == 30);
}

TEST_CASE("training: the best model is the one with the lowest validation loss") {
    ExperimentConfig config = tiny("classic");
    config.learning_rate = 0.3;  // so that it gets worse again
    const TemporaryFolder folder;
    const Trained trained = train_in(folder.path().string(), config, false);
    const std::vector<double>& losses = trained.history["val_loss"];
    const double best = *std::min_element(losses.begin(), losses.end());
    const FinalModel kept = read_final_model(folder / "best_model.pt");
    CHECK(evaluate(*kept.model, excerpt(), config.eval_batches)["val_loss"] == best);
}

TEST_CASE("training: a complete run goes on with more steps, at the rates of the new number") {
    ExperimentConfig config = tiny("classic");
    const TemporaryFolder folder;
    const Trained first = train_in(folder.path().string(), config, false);
    config.classic_steps = 40;
    const Trained longer = train_in(folder.path().string(), config, true);
    REQUIRE(longer.history["step_loss"].size() == 40);
    for (size_t i = 0; i < 30; ++i) CHECK(longer.history["step_loss"][i] == first.history["step_loss"][i]);
    CHECK(longer.history.steps == std::vector<int64_t>{10, 20, 30, 40});
    REQUIRE(longer.log.size() == 40);
    for (int64_t step = 30; step < 40; ++step)
        CHECK(longer.log[static_cast<size_t>(step)].numbers["learning_rate"] ==
              scheduled_learning_rate(step, 40, config.learning_rate));
}

TEST_CASE("training: variants learn, and resume with the same bits") {
    for (ExperimentConfig config :
         {tiny_variant("classic"), tiny_variant("sparse"), tiny_latent("classic"), tiny_latent("sparse")}) {
        INFO(name_of(config.model.attention_type) << ", " << name_of(config.model.attention));
        const TemporaryFolder whole, folder;
        const Trained reference = train_in(whole.path().string(), config, false);
        CHECK(reference.history["step_loss"].back() < reference.history["step_loss"].front() - 0.1);
        train_in(folder.path().string(), config, false, 22);
        check_same(reference, train_in(folder.path().string(), config, true));
    }
}

// Not by a gradient, and not by weight decay; its quality is measured all the same.
TEST_CASE("training: a frozen indexer keeps its weights to the bit, and the main model learns") {
    for (const OptimizerKind optimizer : {OptimizerKind::muon, OptimizerKind::adamw}) {
        ExperimentConfig config = tiny("sparse");
        config.indexer_frozen = true, config.optimizer = optimizer;
        const TemporaryFolder whole, folder;
        const Trained reference = train_in(whole.path().string(), config, false);
        const NamedTensors before = Transformer(config.model, ParameterInit{}).state();
        REQUIRE(before.size() == reference.weights.size());
        for (size_t i = 0; i < before.size(); ++i)
            CHECK_MESSAGE(
                bit_identical(before[i].tensor, reference.weights[i]) == is_indexer_parameter(before[i].name),
                before[i].name);
        CHECK(reference.history["warmup_loss"].empty());
        CHECK(std::isfinite(reference.history["indexer_kl"].back()));
        train_in(folder.path().string(), config, false, 22);
        check_same(reference, train_in(folder.path().string(), config, true));
    }
}

TEST_CASE("training: the indexer's other losses train it otherwise, and resume with the same bits") {
    ExperimentConfig usual = tiny("sparse"), config = usual;
    config.indexer_warmup = IndexerWarmup::entropy, config.model.indexer_loss = IndexerLoss::full_row;
    const TemporaryFolder whole, folder, other;
    const Trained reference = train_in(whole.path().string(), config, false),
                  kl = train_in(other.path().string(), usual, false);
    CHECK(reference.history["warmup_loss"].back() < reference.history["warmup_loss"].front());
    CHECK(reference.history["step_loss"].front() != kl.history["step_loss"].front());
    for (const int64_t stop : {3, 22}) {  // in the warm-up, and after it
        train_in(folder.path().string(), config, false, stop);
        check_same(reference, train_in(folder.path().string(), config, true));
    }
}

TEST_CASE("training: a step moves every router's bias, the warm-up none") {
    const ExperimentConfig config = tiny_variant("sparse");
    const Transformer model(config.model, ParameterInit{});
    const std::vector<Stage> stages = stages_of(config);
    REQUIRE(model.buffers().size() == 2);
    StageRunner(config, model, stages[0]).step(0, excerpt().batch(0));
    for (const NamedTensor& b : model.buffers())
        CHECK(bit_identical(b.tensor, Tensor::zeros(b.tensor.shape())));
    StageRunner(config, model, stages[1]).step(0, excerpt().batch(0));
    for (const NamedTensor& b : model.buffers()) {
        double sum = 0;
        for (const float v : b.tensor.to_vector<float>()) {
            CHECK((v == 0 || std::abs(v) == 0.01f));
            sum += std::abs(v);
        }
        CHECK(sum > 0);
    }
}

TEST_CASE("training: checkpoints and models older than a key are read with its default") {
    const TemporaryFolder folder;
    const ExperimentConfig config = tiny("sparse");
    train_in(folder.path().string(), config, false);
    const Transformer model(config.model, ParameterInit{});
    write_final_model(folder / "final_model.pt", model, config, excerpt().tokenizer().to_json());
    for (const char* name : {"checkpoint.pt", "final_model.pt"}) {
        PtFile file = read_pt(folder / name);
        auto json = nlohmann::ordered_json::parse(file.extra.at("config.json"));
        for (const char* key : {"attention_type", "n_kv_heads", "q_lora_rank", "kv_lora_rank",
                                "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "ffn", "router",
                                "shared_experts", "routed_scaling_factor", "bias_update_speed"})
            CHECK_MESSAGE(json.erase(key) == 1, key);
        file.extra["config.json"] = json.dump();
        write_pt(folder / name, file.tensors, file.extra);
    }
    CHECK(read_checkpoint(folder / "checkpoint.pt").step == 30);
    CHECK(config_to_json(read_final_model(folder / "final_model.pt").config) == config_to_json(config));
}

TEST_CASE("training: a steady step takes no memory from the system") {
    const ExperimentConfig config = tiny("sparse");
    const Transformer model(config.model, ParameterInit{});
    StageRunner runner(config, model, stages_of(config)[1]);
    for (int64_t i = 0; i < 4; ++i) runner.step(i, excerpt().batch(i));
    const int64_t before = memory_stats().system_calls;
    for (int64_t i = 4; i < 8; ++i) runner.step(i, excerpt().batch(i));
    CHECK(memory_stats().system_calls == before);
}

TEST_CASE("final model: written, read back, the same bits; foreign files are refused") {
    const TemporaryFolder folder;
    const ExperimentConfig config = tiny("sparse");
    const Transformer model(config.model, ParameterInit{});
    const std::string path = folder / "final_model.pt";
    write_final_model(path, model, config, excerpt().tokenizer().to_json());
    const FinalModel back = read_final_model(path);
    CHECK(config_to_json(back.config) == config_to_json(config));
    CHECK(Tokenizer::from_json(back.tokenizer_json, path).vocab_size() == excerpt().tokenizer().vocab_size());
    for (size_t i = 0; i < model.state().size(); ++i)
        CHECK(bit_identical(model.state()[i].tensor, back.model->state()[i].tensor));
    CHECK_THROWS_AS(read_final_model(folder / "absent.pt"), Error);
    std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
    CHECK_THROWS_AS(read_final_model(path), Error);
}

// What the README advises against poor alignment, and what it does not: in the same steps.
TEST_CASE("training: indexer_lr aligns the indexer better, and the weight of its loss does not") {
    const auto last_kl = [](double indexer_lr, double weight) {
        ExperimentConfig c = tiny_config(AttentionKind::sparse);
        c.model.init_std = 0.2, c.model.rope_base = 100;
        c.warmup_steps = 30, c.sparse_steps = 60, c.eval_every = 60, c.eval_batches = 4,
        c.checkpoint_every = 100;
        c.indexer_lr = indexer_lr, c.indexer_loss_weight = weight;
        const TemporaryFolder folder;
        const Transformer model(c.model, {.seed = 42, .std = c.model.init_std});
        TrainingHistory history;
        train({.config = c,
               .data = tiny_data(),
               .model = model,
               .folder = folder.path(),
               .estimated_step_seconds = {0, 0},
               .quiet = true},
              history);
        return history.last("indexer_kl");
    };
    const double usual = last_kl(0, 1), heavier = last_kl(0, 16), faster = last_kl(1e-2, 1);
    MESSAGE("KL " << usual << ", with weight 16 " << heavier << ", with indexer_lr 0.01 " << faster);
    CHECK(faster < 0.75 * usual);
    CHECK(std::abs(heavier / usual - 1) < 0.1);
}
