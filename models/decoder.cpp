#include "models/decoder.h"

#include <string>

#include "framework/autograd/autograd.h"
#include "framework/core/core_share.h"
#include "framework/core/error.h"

namespace sieve {

namespace {

// What linear layers multiply by; the embedding among them where it is the head, too.
std::vector<cpu::PackedMatrices::Matrix> matrices_of(const Transformer& model) {
    std::vector<cpu::PackedMatrices::Matrix> matrices;
    if (!model.device().is_cpu()) return matrices;
    for (const auto& [name, weight] : model.state())
        if (weight.rank() == 2 && weight.dtype() == DType::float32 &&
            (name != "embed.weight" || model.config().tie_embeddings))
            matrices.push_back({weight.data<float>(), weight.dim(0), weight.dim(1)});
    return matrices;
}

}  // namespace

Decoder::Decoder(const Transformer& model, Observer observe, int64_t texts)
    : model_(model), packed_(matrices_of(model)), observe_(std::move(observe)) {
    if (texts < 1) fail("decoder: " + std::to_string(texts) + " texts, want at least 1");
    if (observe_ && texts > 1) fail("decoder: an observer sees one text alone");
    caches_.resize(static_cast<size_t>(texts));
    for (int64_t text = 0; text < texts; ++text) clear(text);
}

void Decoder::clear(int64_t text) {
    caches_.at(static_cast<size_t>(text)) =
        std::vector<AttentionCache>(static_cast<size_t>(model_.config().n_layers));
}

Tensor Decoder::read(std::span<const int32_t> tokens, int64_t text) {
    if (tokens.empty()) fail("decoder: no tokens to read");
    size_t next = 0;
    if (length(text) == 0 && tokens.size() > 1) {
        next = tokens.size() - 1;
        forward(tokens.first(next), text, false);
    }
    for (; next + 1 < tokens.size(); ++next) forward(tokens.subspan(next, 1), text, false);
    return forward(tokens.last(1), text, true);
}

Tensor Decoder::read_one_each(std::span<const int64_t> texts, std::span<const int32_t> tokens) {
    if (texts.size() != tokens.size())
        fail("decoder: " + std::to_string(tokens.size()) + " tokens for " + std::to_string(texts.size()) +
             " texts");
    share_cores();
    const NoGrad guard;
    ForwardOptions options;
    for (const int64_t text : texts) options.texts.push_back(&caches_.at(static_cast<size_t>(text)));
    return model_.forward(Tensor::from(tokens, {1, static_cast<int64_t>(tokens.size())}), options).logits;
}

Tensor Decoder::forward(std::span<const int32_t> tokens, int64_t text, bool logits) {
    share_cores();
    const NoGrad guard;
    const Tensor batch = Tensor::from(tokens, {1, static_cast<int64_t>(tokens.size())});
    const ModelOutput out = model_.forward(
        batch, {.logits = logits, .cache = &caches_.at(static_cast<size_t>(text)), .observe = observe_});
    return logits ? out.logits.alias({model_.config().vocab_size}) : Tensor();
}

}  // namespace sieve
