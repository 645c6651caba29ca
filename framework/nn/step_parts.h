// What a training step consists of, as the names of TimedPart: the forward code names its part, and its
// backward counts as the same. Embedding, norms, residual sums and dropout between them are `unnamed_part`.
#pragma once

#include "framework/core/timed_part.h"

namespace sieve::step_part {

inline constexpr const char* projections = "projections";  // into and out of attention, RoPE
inline constexpr const char* indexer_projections = "indexer projections";
inline constexpr const char* selection = "indexer scores and selection";  // one fused op
inline constexpr const char* attention = "attention";
inline constexpr const char* alignment_loss = "alignment loss";
inline constexpr const char* experts = "experts";  // router, dispatch, experts, combination; a dense layer
inline constexpr const char* head = "head";        // last norm, logits, cross entropy
inline constexpr const char* optimizer = "optimizer";  // clipping, Muon, AdamW

inline constexpr const char* all[] = {projections, indexer_projections, selection,
                                      attention,   alignment_loss,      experts,
                                      head,        optimizer,           unnamed_part};

}  // namespace sieve::step_part
