// Reads texts token by token. What was read is kept in a cache of keys, values and indexer keys, so that one
// more token costs O(1) projections, O(T) of indexer scores and attention over the k selected keys: a
// text is never read again. In a classic model attention reads all T cached keys.
//
// Logits and selections have the bits that Transformer::forward gives them on all tokens of the text so far, however
// many texts are read beside it. After an exception a decoder cannot be used any more.
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
    // Called after each layer's attention, once for the tokens that were read together. Optional; of one text alone.
    using Observer = std::function<void(int64_t layer, const AttentionTrace&)>;

    // Of so many texts, all empty. The model must outlive the decoder, and its weights must not change meanwhile.
    explicit Decoder(const Transformer& model, Observer observe = {}, int64_t texts = 1);

    // Appends `tokens` (at least one) to a text and returns the logits [V] that follow the last of them. All but the
    // last token of the first call go through the model together.
    Tensor read(std::span<const int32_t> tokens, int64_t text = 0);
    // Appends tokens[i] to texts[i] (all different, none empty) and returns the logits [n,V] that follow: the weights
    // are read once for all of them.
    Tensor read_one_each(std::span<const int64_t> texts, std::span<const int32_t> tokens);
    // Forgets a text: it is empty again.
    void clear(int64_t text);
    int64_t length(int64_t text = 0) const { return caches_.at(static_cast<size_t>(text)).front().length(); }

  private:
    Tensor forward(std::span<const int32_t> tokens, int64_t text, bool logits);

    const Transformer& model_;
    const cpu::PackedMatrices packed_;
    Observer observe_;
    std::vector<std::vector<AttentionCache>> caches_;  // by text, by layer
};

}  // namespace sieve
