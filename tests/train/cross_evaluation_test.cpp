#include "framework/train/cross_evaluation.h"

#include "framework/autograd/autograd.h"
#include "framework/core/error.h"
#include "tests/models/variants.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

constexpr int64_t length = 11;

Tensor logits_of(const Transformer& model, AttentionStage stage = AttentionStage::sparse) {
    const NoGrad guard;
    return model.forward(random_tokens({2, length}, 3, 13).to(model.device()), {.stage = stage})
        .logits.to(Device{});
}

// The model that the configuration would make of the same weights.
Tensor expected(const Transformer& model, const std::string& selector, int64_t top_k) {
    ModelConfig config = model.config();
    config.attention = AttentionKind::sparse, config.selector = selector, config.sparse_top_k = top_k;
    const Transformer other(config, ParameterInit{.seed = 9});
    NamedTensors state;
    for (const NamedTensor& each : model.state())
        if (config.has_indexer() || !is_indexer_parameter(each.name)) state.push_back(each);
    other.load_state(state, "test");
    return logits_of(other);
}

}  // namespace

DEVICE_TEST_CASE("cross evaluation: as trained, densely, and with every key, to the bit", device) {
    for (const Variant& variant : model_variants()) {
        INFO(variant.name);
        const Transformer model(tiny_variant(variant, "sparse"), {.std = 0.4, .device = device});
        const Tensor dense = logits_of(model, AttentionStage::dense), own = logits_of(model);
        CHECK(!bit_identical(own, dense));
        CHECK(bit_identical(logits_of(*read_by(model, "indexer", 0)), own));
        CHECK(bit_identical(logits_of(*read_by(model, dense_reading, 0)), dense));
        CHECK(bit_identical(logits_of(*read_by(model, dense_reading, 3)), dense));
        if (is_emulated(device) && &variant != &model_variants().front()) continue;
        for (const std::string& reading : readings_of(model.config()))
            CHECK_MESSAGE(bit_identical(logits_of(*read_by(model, reading, length)), dense), reading);
    }
}

TEST_CASE("cross evaluation: another selector, another k, and a classic model's weights") {
    for (const char* attention : {"sparse", "classic"}) {
        const Transformer model(tiny_variant(model_variants()[0], attention), {.std = 0.4});
        for (const std::string& reading : readings_of(model.config()))
            for (const int64_t k : {2, 5})
                if (reading != dense_reading)
                    CHECK_MESSAGE(
                        bit_identical(logits_of(*read_by(model, reading, k)), expected(model, reading, k)),
                        attention << " by " << reading << " k " << k);
    }
    ModelConfig config = tiny_variant(model_variants()[0], "sparse");
    config.indexer_precision = IndexerPrecision::bf16;
    const Transformer rounded(config, ParameterInit{});
    CHECK(read_by(rounded, "indexer", 2)->config().indexer_precision == IndexerPrecision::bf16);
    CHECK(read_by(rounded, "hisa", 2)->config().indexer_precision == IndexerPrecision::fp32);
}

TEST_CASE("cross evaluation: what a model cannot be read by is refused") {
    const Transformer sparse(tiny_variant(model_variants()[0], "sparse"), ParameterInit{}),
        classic(tiny_variant(model_variants()[0], "classic"), ParameterInit{});
    check_error(
        "eval_selector: 'orcle', want " + one_of(readings_of(sparse.config())) + ", did you mean oracle?",
        [&] { read_by(sparse, "orcle", 0); });
    check_error("eval_selector: 'indexer', want " + one_of(readings_of(classic.config())) +
                    "; this model has no indexer",
                [&] { read_by(classic, "indexer", 0); });
    CHECK(one_of(readings_of(classic.config())).starts_with("dense, block_mean, oracle, "));
}
