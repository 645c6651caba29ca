#include "models/decoder.h"

#include "framework/autograd/autograd.h"
#include "framework/core/core_share.h"
#include "framework/core/error.h"

namespace sieve {

namespace {

// What linear layers multiply by. Tied weights are one matrix.
std::vector<cpu::PackedMatrices::Matrix> matrices_of(const Transformer& model) {
    std::vector<cpu::PackedMatrices::Matrix> matrices;
    if (!model.device().is_cpu()) return matrices;
    for (const auto& [name, weight] : model.state())
        if (weight.rank() == 2 && weight.dtype() == DType::float32)
            matrices.push_back({weight.data<float>(), weight.dim(0), weight.dim(1)});
    return matrices;
}

}  // namespace

Decoder::Decoder(const Transformer& model, Observer observe)
    : model_(model),
      packed_(matrices_of(model)),
      observe_(std::move(observe)),
      cache_(static_cast<size_t>(model.config().n_layers)) {}

Tensor Decoder::read(std::span<const int32_t> tokens) {
    if (tokens.empty()) fail("decoder: no tokens to read");
    size_t next = 0;
    if (length() == 0 && tokens.size() > 1) {
        next = tokens.size() - 1;
        forward(tokens.first(next), false);
    }
    for (; next + 1 < tokens.size(); ++next) forward(tokens.subspan(next, 1), false);
    return forward(tokens.last(1), true);
}

Tensor Decoder::forward(std::span<const int32_t> tokens, bool logits) {
    share_cores();
    const NoGrad guard;
    const Tensor batch = Tensor::from(tokens, {1, static_cast<int64_t>(tokens.size())});
    const ModelOutput out = model_.forward(batch, {.logits = logits, .cache = &cache_, .observe = observe_});
    return logits ? out.logits.alias({model_.config().vocab_size}) : Tensor();
}

}  // namespace sieve
