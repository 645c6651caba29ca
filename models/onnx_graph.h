// The language model as an ONNX graph of standard operators, for inference elsewhere:
//
//   tokens int64 [batch, sequence]  ->  logits float32 [batch, sequence, vocabulary]
//
// Any batch and length, 0 included; the weights keep their names and shapes. Scores of keys are float32,
// whatever indexer_precision is. Selection is TopK(min(k, sequence)) -> ScatterElements -> And causal, then
// Where(-inf) in front of the softmax, so the work of attention is O(T^2) here. An expert sees only the
// tokens that chose it.
//
// Ties: ONNX's TopK puts the lower index first among equal scores, which is this project's rule. It decides
// as here where scores are equal to the bit: ReLU zeros, and in the first layer equal tokens (ONNX Runtime's
// CPU products give equal rows equal bits where the matrices are small; tested). Keys may also tie
// mathematically and differ by rounding alone: below the first layer those of equal tokens at the start of a
// text, and in ONNX Runtime, whose rounding depends on a row's place in larger matrices, those of equal
// tokens in a row anywhere. So such keys may be ranked differently, and then that token's logits differ
// visibly: with the plain indexer, whose keys do not know their position, in 119 of 6400 rows of a Markdown
// text (vocabulary 512, 64 tokens, k 8), by up to 0.12 of about 1. DeepSeek's indexer rotates its keys by
// position, and had none.
#pragma once

#include "framework/io/onnx.h"
#include "models/transformer.h"

namespace sieve {

// The graph shares the model's weights. Throws when the model is not float32 or when its state holds a tensor
// that the graph has no place for, naming it; a usage error for the model variants that it does not cover.
OnnxModel onnx_graph(const Transformer& model);

}  // namespace sieve
