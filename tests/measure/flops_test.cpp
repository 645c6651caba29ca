// Counted operations against the parameters of real models.
#include "framework/measure/flops.h"

#include "framework/nn/step_parts.h"
#include "framework/optim/hybrid.h"
#include "models/transformer.h"
#include "tests/models/variants.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

bool contains(const std::string& name, const char* part) {
    return name.find(part) != std::string::npos;
}

// 2 operations per token for the forward and 4 for the backward, for every weight that a token meets: all
// hidden matrices of the main model but the experts that were not chosen, and the output head (which is the
// embedding where they are tied).
double projections_of(const Transformer& model, double tokens) {
    const ModelConfig& c = model.config();
    const double chosen = static_cast<double>(c.expert_top_k) / static_cast<double>(c.num_experts);
    double elements = 0;
    for (const NamedTensor& p : model.main_parameters())
        if (p.tensor.rank() == 2 && (c.tie_embeddings || p.name != "embed.weight"))
            elements += static_cast<double>(p.tensor.numel()) * (contains(p.name, ".experts.") ? chosen : 1);
    return 6 * tokens * elements;
}

double newton_schulz_of(const Transformer& model) {
    double sum = 0;
    for (const NamedTensor& p : model.parameters()) {
        if (!is_hidden_matrix(p)) continue;
        const auto rows = static_cast<double>(p.tensor.dim(0)),
                   columns = static_cast<double>(p.tensor.dim(1));
        const double m = std::min(rows, columns), n = std::max(rows, columns);
        sum += m == n ? 20 * m * m * m : 6 * m * m * n + 14 * m * m * m;
    }
    return sum;
}

}  // namespace

TEST_CASE("flops: projections and optimiser are those of the model's parameters, in every variant") {
    for (const Variant& variant : model_variants())
        for (const char* attention : {"classic", "sparse"}) {
            INFO(variant.name << ", " << attention);
            const Transformer model(tiny_variant(variant, attention), ParameterInit{});
            const StepFlops flops = training_step_flops(model.config(), 3, 7);
            CHECK(flops.projections + flops.experts + flops.head ==
                  doctest::Approx(projections_of(model, 21)).epsilon(1e-12));
            CHECK(flops.optimizer == doctest::Approx(newton_schulz_of(model)).epsilon(1e-12));
        }
}

TEST_CASE("flops: attention and indexer by hand") {
    ModelConfig c;  // one layer, 4 tokens, top 2: queries read 1, 2, 2, 2 keys; densely 1, 2, 3, 4
    c.n_layers = 1, c.d_model = 8, c.n_heads = 2;
    CHECK(training_step_flops(c, 1, 4).attention == doctest::Approx(10 * 14 * 8));
    CHECK(training_step_flops(c, 1, 4).indexer() == 0);
    c.attention = AttentionKind::sparse, c.sparse_top_k = 2, c.indexer_heads = 1, c.indexer_dim = 3;
    CHECK(training_step_flops(c, 1, 4).attention == doctest::Approx(7 * 14 * 8));
    // Projections 3 + 3 + 1 rows of 8; scores over 10 pairs; loss and gradients over 7; main scores over 7.
    CHECK(training_step_flops(c, 1, 4).indexer() ==
          doctest::Approx(4 * 4 * 7 * 8 + 10 * 2 * 3 + 7 * 6 * 3 + 7 * 2 * 8));
    const double one = training_step_flops(c, 1, 4).indexer(), loss = 7 * 6 * 3 + 7 * 2 * 8;
    c.n_layers = 2, c.index_share = "FS";  // the second layer has no indexer, but may have a loss
    CHECK(training_step_flops(c, 1, 4).indexer() == doctest::Approx(one));
    c.index_share_loss = IndexShareLoss::served;
    CHECK(training_step_flops(c, 1, 4).indexer() == doctest::Approx(one + loss));
    c.n_layers = 1, c.index_share = "";
    c.indexer_pool = 2;  // scores of half as many keys
    CHECK(training_step_flops(c, 1, 4).indexer() == doctest::Approx(one - 5 * 2 * 3));
    c.selector = "oracle";  // main scores over 10 pairs
    CHECK(training_step_flops(c, 1, 4).indexer() == doctest::Approx(10 * 2 * 8));
    c.selector = "block_mean", c.selector_block = 2;  // and their means: half as many
    CHECK(training_step_flops(c, 1, 4).indexer() == doctest::Approx(5 * 2 * 8));
    c.selector = "recent";
    CHECK(training_step_flops(c, 1, 4).indexer() == 0);
    c.attention_type = AttentionType::gqa, c.n_kv_heads = 1;  // keys are shared, scores are not
    CHECK(training_step_flops(c, 1, 4).attention == doctest::Approx(7 * 14 * 8));
    c.attention_type = AttentionType::mla, c.kv_lora_rank = 5,
    c.qk_rope_head_dim = 2;  // 2 heads of 7 over values of 5
    CHECK(training_step_flops(c, 1, 4).attention == doctest::Approx(7 * 2 * 2 * (4 * 7 + 3 * 5)));
}

TEST_CASE("flops: the parts of a small model by hand, in training and in a forward alone") {
    // 1 layer of width 8 with 2 heads, 3 experts of 5 of which a token uses 2, 11 tokens in the vocabulary;
    // one window of 4 tokens, top 2: 10 pairs in the triangle, 7 of them read. Indexer: one head of 3 dims.
    ModelConfig c;
    c.attention = AttentionKind::sparse, c.sparse_top_k = 2, c.indexer_heads = 1, c.indexer_dim = 3;
    c.n_layers = 1, c.d_model = 8, c.n_heads = 2, c.d_ff = 5, c.num_experts = 3, c.expert_top_k = 2;
    c.vocab_size = 11;
    const StepFlops forward = forward_flops(c, 1, 4), training = training_step_flops(c, 1, 4);
    const double qkv_and_out = 24 * 8 + 8 * 8, gate_and_experts = 3 * 8 + 2 * (2 * 5 * 8);
    const auto check = [&](const char* part, double in_forward, double in_training) {
        INFO(part);
        CHECK(flops_of_part(forward, part) == doctest::Approx(in_forward));
        CHECK(flops_of_part(training, part) == doctest::Approx(in_training));
    };
    check("projections", 4 * 2 * qkv_and_out, 3 * 4 * 2 * qkv_and_out);
    check("experts", 4 * 2 * gate_and_experts, 3 * 4 * 2 * gate_and_experts);
    check("head", 4 * 2 * 88, 3 * 4 * 2 * 88);
    check("attention", 7 * 2 * 2 * 8, 7 * 7 * 2 * 8);                // 2 products; 5 more in the backward
    check("indexer projections", 4 * 2 * 7 * 8, 2 * 4 * 2 * 7 * 8);  // 3 + 3 + 1 rows; weight gradient only
    check("indexer scores and selection", 10 * 2 * 3, 10 * 2 * 3);   // no gradient
    check("alignment loss", 7 * 2 * (3 + 8),
          7 * 2 * (3 * 3 + 8));  // indexer's scores, main scores; dq and dk
    check("other", 0, 0);
    c.indexer_loss = IndexerLoss::full_row;  // in training over all 10 pairs
    CHECK(forward_flops(c, 1, 4).alignment_loss == forward.alignment_loss);
    CHECK(training_step_flops(c, 1, 4).alignment_loss == doctest::Approx(10 * 2 * (3 * 3 + 8)));
    CHECK(forward.optimizer == 0);
    CHECK(training.total() == doctest::Approx(training.model() + flops_of_part(training, "optimizer")));
    double sum = 0;
    for (const char* part : step_part::all) sum += flops_of_part(training, part);
    CHECK(sum == doctest::Approx(training.total()));
}

TEST_CASE("flops: top k per layer") {
    ModelConfig c;
    c.attention = AttentionKind::sparse, c.n_layers = 2;
    const auto attention_of = [&](const PerLayer& k) {
        c.sparse_top_k = k;
        return training_step_flops(c, 1, 32).attention;
    };
    CHECK(attention_of(PerLayer({4, 16})) == doctest::Approx((attention_of(4) + attention_of(16)) / 2));
}
