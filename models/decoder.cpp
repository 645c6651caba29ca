#include "models/decoder.h"

#include "framework/autograd/autograd.h"
#include "framework/core/core_share.h"
#include "framework/core/error.h"

namespace sieve {

Decoder::Decoder(const Transformer& model, Observer observe)
    : model_(model), observe_(std::move(observe)), cache_(static_cast<size_t>(model.config().n_layers)) {}

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
