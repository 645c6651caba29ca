#pragma once

#include <cstdint>

#include "framework/attention/scores/indexer_sizes.h"
#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct IndexerScoresForward {
    const T* q;  // [B,T,HI,dI]
    const T* k;  // [B,T,dI]
    const T* w;  // [B,T,HI]
    T* scores;   // [B,T,T]
    IndexerSizes sizes;
    double scale;
};

template <class T>
struct IndexerScoresBackward {
    const T* dscores;  // [B,T,T], read at s <= t
    const T* q;        // [B,T,HI,dI]
    const T* k;        // [B,T,dI]
    const T* w;        // [B,T,HI]
    T* dq;             // [B,T,HI,dI]
    T* dk;             // [B,T,dI]
    T* dw;             // [B,T,HI]
    IndexerSizes sizes;
    double scale;
};

template <class T>
struct IndexerSelect {
    const T* q;        // [B,T,HI,dI]
    const T* k;        // [B,T,dI]
    const T* w;        // [B,T,HI]
    int32_t* indices;  // [B,T,slots]
    int32_t* counts;   // [B,T]
    int64_t* bad_row;  // the lowest row (b T + t) with a NaN score, or -1; of the CPU only
    IndexerSizes sizes;
    double scale;
    int64_t slots;  // min(top_k, T)
};

// q and k as int8 codes, one scale a row. The scales of the queries are in w.
struct IndexerSelectInt8 {
    const uint8_t* q;         // [B,T,HI,dI], bytes of int8
    const uint8_t* k;         // [B,T,dI]
    const float* w;           // [B,T,HI]
    const float* key_scales;  // [B,T]
    int32_t* indices;         // as above, like all below
    int32_t* counts;
    int64_t* bad_row;
    IndexerSizes sizes;
    double scale;
    int64_t slots;
};

namespace cpu {
template <class T>
void indexer_scores_forward(const IndexerScoresForward<T>& a);
template <class T>
void indexer_scores_backward(const IndexerScoresBackward<T>& a);
template <class T>
void indexer_select(const IndexerSelect<T>& a);
void indexer_select_int8(const IndexerSelectInt8& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void indexer_scores_forward(const IndexerScoresForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void indexer_scores_backward(const IndexerScoresBackward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void indexer_select(const IndexerSelect<T>& a);
SIEVE_CUDA_TWIN void indexer_select_int8(const IndexerSelectInt8& a);
}  // namespace cuda

}  // namespace sieve
