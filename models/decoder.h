// Reads a text token by token. What was read is kept in a cache of keys, values and indexer keys, so that one
// more token costs O(1) projections, O(T) of indexer scores and attention over the k selected keys: the whole
// text is never read again. In a classic model attention reads all T cached keys.
//
// Logits and selections have the bits that Transformer::forward gives them on all tokens so far.
// After an exception a decoder cannot be used any more.
//
// On a CPU a decoder keeps the model's matrices packed: their size once more, at bf16 half of it.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "framework/blas/packed_matrices.h"
#include "models/transformer.h"

namespace sieve {

class Decoder {
  public:
    // Called after each layer's attention, once for the tokens that were read together. Optional.
    using Observer = std::function<void(int64_t layer, const AttentionTrace&)>;

    // The model must outlive the decoder, and its weights must not change meanwhile.
    explicit Decoder(const Transformer& model, Observer observe = {});

    // Appends `tokens` (at least one) and returns the logits [V] that follow the last of them. All but the
    // last token of the first call go through the model together.
    Tensor read(std::span<const int32_t> tokens);
    int64_t length() const { return cache_.front().length(); }

  private:
    Tensor forward(std::span<const int32_t> tokens, bool logits);

    const Transformer& model_;
    const cpu::PackedMatrices packed_;
    Observer observe_;
    std::vector<AttentionCache> cache_;
};

}  // namespace sieve
