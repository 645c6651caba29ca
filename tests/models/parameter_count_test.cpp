#include "models/parameter_count.h"

#include "models/transformer.h"
#include "tests/models/variants.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

int64_t elements_of(const NamedTensors& tensors) {
    int64_t count = 0;
    for (const NamedTensor& each : tensors) count += each.tensor.numel();
    return count;
}

}  // namespace

TEST_CASE("parameter_count: what the model of every variant has") {
    for (const Variant& variant : model_variants())
        for (const std::string attention : {"classic", "sparse"}) {
            INFO(variant.name << ", " << attention);
            const ModelConfig config = tiny_variant(variant, attention);
            const Transformer model(config, ParameterInit{});
            const ParameterCount count = parameter_count(config);
            CHECK(count.main == elements_of(model.main_parameters()));
            CHECK(count.indexer == elements_of(model.indexer_parameters()));
        }
}

TEST_CASE("parameter_count: stays at the largest number where there are more") {
    ModelConfig c;
    c.attention = AttentionKind::sparse;
    const int64_t usual = parameter_count(c).total();
    CHECK(usual == parameter_count(c).main + parameter_count(c).indexer);
    c.d_ff = int64_t{1} << 61;
    CHECK(parameter_count(c).main == INT64_MAX);
    CHECK(parameter_count(c).total() == INT64_MAX);
    c.d_ff = 512, c.indexer_heads = int64_t{1} << 62;
    CHECK(parameter_count(c).indexer == INT64_MAX);
    CHECK(parameter_count(c).total() == INT64_MAX);
    c.indexer_heads = 4, c.shared_experts = INT64_MAX;
    CHECK(parameter_count(c).main == INT64_MAX);
    c.shared_experts = 0;
    CHECK(parameter_count(c).total() == usual);
}
