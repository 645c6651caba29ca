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
