// The trainer's steps against the recipe written out: which losses with which weights, which random stream, which
// norm clips what, at which learning rate. Ops and optimisers have their own tests and are used here as they are.
#include <cmath>

#include "framework/autograd/autograd.h"
#include "framework/ops/add/add.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
#include "framework/ops/scale/scale.h"
#include "framework/optim/adamw.h"
#include "framework/optim/hybrid.h"
#include "framework/optim/schedule.h"
#include "framework/train/trainer.h"
#include "tests/models/variants.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

constexpr int64_t steps = 4;

// Muon and AdamW are blind to a constant factor of the gradients, so each weight and limit must show otherwise: both
// groups are clipped, by norms that change from step to step, and the indexer's is not with a light_weight.
constexpr double light_weight = 0.1;

ExperimentConfig tiny(AttentionKind attention) {
    ExperimentConfig c;
    c.model.attention = attention;
    c.model.vocab_size = 40;
    c.model.d_model = 16, c.model.n_heads = 2, c.model.n_layers = 2, c.model.d_ff = 24;
    c.model.max_seq_len = 12;
    c.model.num_experts = 3, c.model.expert_top_k = 2;
    c.model.indexer_heads = 2, c.model.indexer_dim = 8, c.model.sparse_top_k = 5;
    c.model.dropout = 0.1, c.model.router_noise = 0.1;
    c.batch_size = 2;
    c.classic_steps = c.sparse_steps = 40, c.warmup_steps = 20;
    c.learning_rate = 0.02, c.warmup_lr = 0.005;
    c.load_balancing_weight = 0.5, c.indexer_loss_weight = 3, c.bias_update_speed = 0.01;
    c.weight_decay = 0.1, c.grad_clip = 0.3;
    return c;
}

Batch batch_of(const ExperimentConfig& c, int64_t step) {
    const auto seed = static_cast<uint64_t>(step);
    const Shape shape{c.batch_size, c.model.max_seq_len};
    return {random_tokens(shape, 2 * seed, 40), random_tokens(shape, 2 * seed + 1, 40)};
}

// Scales the gradients of the group to a norm of at most `limit`; returns the norm before.
double clip_by_hand(const NamedTensors& group, double limit) {
    double squares = 0;
    for (const NamedTensor& p : group)
        if (p.tensor.grad().defined())
            for (const float g : p.tensor.grad().to_vector<float>())
                squares += static_cast<double>(g) * static_cast<double>(g);
    const double norm = std::sqrt(squares);
    for (const NamedTensor& p : group) {
        const Tensor grad = p.tensor.grad();
        if (!grad.defined()) continue;
        for (int64_t i = 0; i < grad.numel(); ++i)
            grad.data<float>()[i] *= static_cast<float>(std::min(1.0, limit / (norm + 1e-6)));
    }
    return norm;
}

class HandWrittenLoop {
  public:
    HandWrittenLoop(const ExperimentConfig& config, StageKind kind)
        : model(config.model, ParameterInit{.std = 0.2}),
          c_(config),
          kind_(kind),
          optimizer_(model.main_parameters(), {.weight_decay = config.weight_decay,
                                               .use_muon = config.optimizer == OptimizerKind::muon}),
          indexer_optimizer_(
              model.indexer_parameters(),
              {.weight_decay = config.weight_decay, .use_muon = config.optimizer == OptimizerKind::muon}),
          warmup_optimizer_(model.indexer_parameters(), {.weight_decay = config.weight_decay}) {}

    StageRunner::StepResult step(int64_t index, const Batch& batch) {
        // The streams of (stage, step): none is used twice.
        const uint64_t number_of_stage = kind_ == StageKind::classic ? 1 : kind_ == StageKind::warmup ? 2 : 3;
        Generator rng(42, (number_of_stage << 56) + (static_cast<uint64_t>(index) << 16));
        return kind_ == StageKind::warmup ? warm_up(rng, batch) : train(rng, index, batch);
    }

    const Transformer model;

  private:
    StageRunner::StepResult warm_up(Generator& rng, const Batch& batch) {
        const ModelOutput out =
            model.forward(batch.tokens, {.stage = AttentionStage::dense,
                                         .rng = &rng,
                                         .indexer_loss = true,
                                         .which_loss = c_.indexer_warmup == IndexerWarmup::entropy
                                                           ? SelectorLoss::entropy
                                                           : SelectorLoss::alignment,
                                         .logits = false});
        backward(out.indexer_loss);
        for (const NamedTensor& p : model.main_parameters()) REQUIRE(!p.tensor.grad().defined());
        const double norm = clip_by_hand(model.indexer_parameters(), 0.3);
        const double rate = c_.indexer_lr > 0 ? 0.013 : 0.005;  // indexer_lr or warmup_lr, in every step
        warmup_optimizer_.step(rate);
        indexer_optimizer_.zero_grad();
        return {out.indexer_loss.item(), norm, rate};
    }

    StageRunner::StepResult train(Generator& rng, int64_t index, const Batch& batch) {
        const ModelOutput out =
            model.forward(batch.tokens, {.stage = AttentionStage::sparse,
                                         .rng = &rng,
                                         .indexer_loss = c_.model.is_sparse(),
                                         .which_loss = c_.model.indexer_loss == IndexerLoss::full_row
                                                           ? SelectorLoss::full_alignment
                                                           : SelectorLoss::alignment});
        const Tensor lm = cross_entropy(out.logits, batch.targets.alias({batch.targets.numel()}));
        Tensor loss = add(lm, scale(out.load_balancing, 0.5));
        if (c_.model.is_sparse()) loss = add(loss, scale(out.indexer_loss, c_.indexer_loss_weight));
        backward(loss);
        clip_by_hand(model.indexer_parameters(), 0.3);
        const double norm = clip_by_hand(model.main_parameters(), 0.3);
        const double rate = scheduled_learning_rate(index, 40, 0.02);
        optimizer_.step(rate);
        indexer_optimizer_.step(c_.indexer_lr > 0 ? scheduled_learning_rate(index, 40, 0.013) : rate);
        model.balance_routers(out.assignments, 0.01, {});
        optimizer_.zero_grad();
        indexer_optimizer_.zero_grad();
        return {lm.item(), norm, rate};
    }

    ExperimentConfig c_;
    StageKind kind_;
    HybridOptimizer optimizer_, indexer_optimizer_;
    AdamW warmup_optimizer_;
};

double norm_of(const std::vector<double>& x) {
    double squares = 0;
    for (const double v : x) squares += v * v;
    return std::sqrt(squares);
}

// a - b
std::vector<double> difference(const Tensor& a, const Tensor& b) {
    std::vector<double> d;
    const std::vector<float> x = a.to_vector<float>(), y = b.to_vector<float>();
    for (size_t i = 0; i < x.size(); ++i) d.push_back(static_cast<double>(x[i]) - static_cast<double>(y[i]));
    return d;
}

void check_stage(const ExperimentConfig& config, const Stage& stage) {
    INFO(name_of(stage.kind) << ", " << name_of(config.optimizer) << ", " << name_of(config.model.router));
    HandWrittenLoop want(config, stage.kind);
    const Transformer model(config.model, ParameterInit{.std = 0.2}),
        start(config.model, ParameterInit{.std = 0.2});
    StageRunner runner(config, model, stage);
    for (int64_t i = 0; i < steps; ++i) {
        INFO("step " << i);
        const StageRunner::StepResult a = runner.step(i, batch_of(config, i)),
                                      b = want.step(i, batch_of(config, i));
        CHECK(a.loss == doctest::Approx(b.loss).epsilon(1e-6));
        CHECK(a.grad_norm == doctest::Approx(b.grad_norm).epsilon(1e-5));
        CHECK(a.learning_rate == b.learning_rate);
        for (size_t p = 0; p < model.state().size(); ++p) {
            const Tensor got = model.state()[p].tensor, right = want.model.state()[p].tensor;
            const double moved = norm_of(difference(right, start.state()[p].tensor));
            INFO(model.state()[p].name << " moved by " << moved);
            CHECK(norm_of(difference(got, right)) <= 1e-4 * moved);
        }
    }
}

}  // namespace

TEST_CASE("training step: the same as the recipe written out, in every stage") {
    for (const OptimizerKind optimizer : {OptimizerKind::muon, OptimizerKind::adamw})
        for (const RouterKind router : {RouterKind::softmax, RouterKind::sigmoid_bias})
            for (const AttentionKind attention : {AttentionKind::classic, AttentionKind::sparse}) {
                ExperimentConfig config = tiny(attention);
                config.optimizer = optimizer;
                config.model.router = router;
                for (const double weight : {3.0, light_weight}) {
                    config.indexer_loss_weight = weight;
                    for (const Stage& stage : stages_of(config)) check_stage(config, stage);
                }
            }
}

TEST_CASE("training step: the indexer's own learning rate, in the warm-up and beside the main model's") {
    for (const OptimizerKind optimizer : {OptimizerKind::muon, OptimizerKind::adamw}) {
        ExperimentConfig config = tiny(AttentionKind::sparse);
        config.optimizer = optimizer;
        config.indexer_lr = 0.013;
        for (const Stage& stage : stages_of(config)) check_stage(config, stage);
    }
}

TEST_CASE("training step: what the indexer learns from in the warm-up, and in the sparse stage") {
    for (const OptimizerKind optimizer : {OptimizerKind::muon, OptimizerKind::adamw}) {
        ExperimentConfig config = tiny(AttentionKind::sparse);
        config.optimizer = optimizer;
        config.indexer_warmup = IndexerWarmup::entropy, config.model.indexer_loss = IndexerLoss::full_row;
        for (const Stage& stage : stages_of(config)) check_stage(config, stage);
    }
}

TEST_CASE("training step: dense layers and experts in groups, a head of its own, biases, a shared indexer") {
    for (const OptimizerKind optimizer : {OptimizerKind::muon, OptimizerKind::adamw})
        for (const AttentionKind attention : {AttentionKind::classic, AttentionKind::sparse}) {
            ExperimentConfig config = tiny(attention);
            config.optimizer = optimizer;
            make_glm(config.model);
            for (const Stage& stage : stages_of(config)) check_stage(config, stage);
        }
}

// The main model's steps are the same bits whatever the indexer's rate and weight: the two share nothing. The
// weight 0 leaves the indexer's matrices where they are.
TEST_CASE("training step: what indexer_lr and indexer_loss_weight change") {
    const auto trained = [](double rate, double weight) {
        ExperimentConfig config = tiny(AttentionKind::sparse);
        config.indexer_lr = rate, config.indexer_loss_weight = weight;
        auto model = std::make_unique<Transformer>(config.model, ParameterInit{.std = 0.2});
        StageRunner runner(config, *model, stages_of(config).back());
        runner.step(0, batch_of(config, 0));  // the selections of later steps differ
        return model;
    };
    const auto usual = trained(0, 1), faster = trained(0.05, 1), heavier = trained(0, 9), off = trained(0, 0);
    const Transformer start(tiny(AttentionKind::sparse).model, ParameterInit{.std = 0.2});
    const auto moved = [](const Transformer& a, const Transformer& b, bool indexer) {
        double most = 0;
        const NamedTensors x = indexer ? a.indexer_parameters() : a.main_parameters(),
                           y = indexer ? b.indexer_parameters() : b.main_parameters();
        for (size_t i = 0; i < x.size(); ++i)
            most = std::max(most, norm_of(difference(x[i].tensor, y[i].tensor)));
        return most;
    };
    for (const Transformer* other : {faster.get(), heavier.get(), off.get()})
        CHECK(moved(*usual, *other, false) == 0);
    CHECK(moved(*faster, start, true) > 2 * moved(*usual, start, true));
    CHECK(moved(*heavier, start, true) == doctest::Approx(moved(*usual, start, true)).epsilon(1e-3));
    CHECK(moved(*off, start, true) == 0);
}

// A matrix made orthogonal has min(rows, cols) singular values of about 1, so Muon's update of one has a norm of
// about rate sqrt(rows), its factor sqrt(max(1, rows / cols)) included. Taken as one matrix, queries and keys, whose gradients are small at the
// start, hardly move.
TEST_CASE("training step: with muon_matrices queries, keys and values move alike") {
    for (const AttentionType type : {AttentionType::mha, AttentionType::gqa, AttentionType::mla}) {
        double least_as_whole = 1;
        for (const PackedMatrices packed :
             {PackedMatrices::whole, PackedMatrices::qkv, PackedMatrices::heads}) {
            INFO(name_of(type) << ", " << name_of(packed));
            ExperimentConfig config = tiny(AttentionKind::classic);
            config.model.attention_type = type, config.model.n_kv_heads = 1;
            config.model.kv_lora_rank = 8, config.model.qk_nope_head_dim = 6;
            config.model.qk_rope_head_dim = 4, config.model.v_head_dim = 5;
            config.muon_matrices = packed, config.batch_size = 8;
            const Transformer model(config.model, {}), start(config.model, {});
            StageRunner runner(config, model, stages_of(config).front());
            const double rate = runner.step(0, batch_of(config, 0)).learning_rate;
            double least = 1;
            int64_t parts = 0;
            const NamedTensors before = start.parameters(), after = model.parameters();
            for (size_t i = 0; i < after.size(); ++i) {
                const std::vector<int64_t> counted =
                    packed_rows(config.model, packed == PackedMatrices::heads ? packed : PackedMatrices::qkv,
                                after[i].name);
                for (int64_t first = 0; const int64_t rows : counted) {
                    const double norm = norm_of(difference(after[i].tensor.rows(first, first + rows),
                                                           before[i].tensor.rows(first, first + rows)));
                    least = std::min(least, norm / (rate * std::sqrt(static_cast<double>(rows))));
                    first += rows, ++parts;
                }
            }
            REQUIRE(parts >= 2 * config.model.n_layers);
            if (packed == PackedMatrices::whole) least_as_whole = least;
            if (packed == PackedMatrices::whole) continue;
            CHECK(least > 0.5);
            CHECK(least > 1.3 * least_as_whole);
        }
    }
}

// What the comparison above rests on: were one of these not so, a wrong factor would change nothing.
TEST_CASE("training step: what is clipped in the comparison, and that the norms change") {
    const ExperimentConfig config = tiny(AttentionKind::sparse);
    const Transformer model(config.model, ParameterInit{.std = 0.2});
    std::vector<double> main, indexer;
    for (int64_t i = 0; i < 2; ++i) {
        Generator rng(42, static_cast<uint64_t>(i) << 16);
        const Batch batch = batch_of(config, i);
        const ModelOutput out = model.forward(batch.tokens, {.rng = &rng, .indexer_loss = true});
        backward(
            add(cross_entropy(out.logits, batch.targets.alias({batch.targets.numel()})), out.indexer_loss));
        main.push_back(clip_by_hand(model.main_parameters(), 0.3));
        indexer.push_back(clip_by_hand(model.indexer_parameters(), 0.3));
        for (const NamedTensor& p : model.parameters()) p.tensor.set_grad({});
    }
    for (const std::vector<double>& norms : {main, indexer}) {
        INFO(norms[0] << ", " << norms[1]);
        for (const double norm : norms) CHECK(norm > 0.3);
        CHECK(std::abs(norms[0] / norms[1] - 1) > 0.01);
    }
    for (const double norm : indexer) CHECK(light_weight * norm < 0.3);
}

TEST_CASE("training step: the stages, their lengths and peak learning rates") {
    ExperimentConfig config = tiny(AttentionKind::classic);
    CHECK(stages_of(config).size() == 1);
    CHECK(stages_of(config)[0].peak_learning_rate == 0.02);
    CHECK(stages_of(config)[0].steps == 40);
    config.model.attention = AttentionKind::sparse;
    const auto sparse_rate = [&] { return stages_of(config).back().peak_learning_rate; };
    CHECK(stages_of(config)[0].kind == StageKind::warmup);
    CHECK(stages_of(config)[0].peak_learning_rate == 0.005);
    CHECK(stages_of(config)[0].steps == 20);
    CHECK(sparse_rate() == 0.02);
    config.sparse_init = SparseInit::classic;
    CHECK(sparse_rate() == doctest::Approx(0.002));  // trained weights are not to be thrown away
    config.sparse_learning_rate = 0.007;
    CHECK(sparse_rate() == 0.007);
    ExperimentConfig frozen = config;
    frozen.indexer_frozen = true;
    REQUIRE(stages_of(frozen).size() == 1);
    CHECK(stages_of(frozen)[0].kind == StageKind::sparse);
    CHECK(!stages_of(config).back().indexer_learning_rate);
    config.indexer_lr = 0.013;
    CHECK(stages_of(config)[0].peak_learning_rate == 0.013);
    CHECK(stages_of(config).back().indexer_learning_rate == 0.013);
    CHECK(sparse_rate() == 0.007);
    config.warmup_steps = 0;
    REQUIRE(stages_of(config).size() == 1);
    CHECK(stages_of(config)[0].kind == StageKind::sparse);
}
