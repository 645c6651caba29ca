// What dense and sparse attention compute by tiles: one compiled function for both, so that a selection of
// every key gives dense attention's bits. Queries that do not attend to a key of their tile are masked out of
// it.
#pragma once

#include "framework/attention/tiles/attention_kernels.h"
#include "framework/attention/tiles/key_chunks.h"

namespace sieve::cpu {

// out and lse of the queries [begin, end) of the heads [first_head, first_head + heads) of batch row b; end -
// begin is a multiple of 32 unless the rows end there. The heads share the work of turning a selection into
// masks.
template <class T>
void attend_by_tiles(const AttentionForward<T>& a, int64_t b, int64_t first_head, int64_t heads,
                     int64_t begin, int64_t end);

// The task's share of the gradients of the queries [task.begin, query_end): writes their dq, adds to dk and
// dv.
template <class T>
void attend_back_by_tiles(const AttentionBackward<T>& a, const KeyTask<T>& task, int64_t query_end);

}  // namespace sieve::cpu
