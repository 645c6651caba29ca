#pragma once

#include <cstdint>

#include "framework/attention/scores/indexer_sizes.h"
#include "framework/attention/selection/selected_keys.h"
#include "framework/attention/target/attention_target.h"
#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct IndexerKlForward {
    const T* index_q;  // [B,T,HI,dI]
    const T* index_k;  // [B,T,dI]
    const T* index_w;  // [B,T,HI]
    double index_scale;
    AttentionTarget<T> target;
    SelectedKeys keys;  // or none: all s <= t
    // [B,T,slots] or null: H p of the chosen keys of the rows from weights_from on. Read on the CPU only.
    const T* weight_sums;
    int64_t weights_from;
    T* loss;  // []
    T* dq;    // [B,T,HI,dI], or null: no gradients wanted
    T* dk;    // [B,T,dI], or null
    T* dw;    // [B,T,HI], or null
    IndexerSizes sizes;
};

template <class T>
struct IndexerNegentropyForward {
    const T* index_q;  // [B,T,HI,dI]
    const T* index_k;  // [B,T,dI]
    const T* index_w;  // [B,T,HI]
    double index_scale;
    T* loss;  // []
    T* dq;    // [B,T,HI,dI], or null: no gradients wanted
    T* dk;    // [B,T,dI], or null
    T* dw;    // [B,T,HI], or null
    IndexerSizes sizes;
};

// Of both.
template <class T>
struct IndexerKlBackward {
    const T* dloss;  // []
    T* dq;           // [nq], multiplied by dloss in place
    T* dk;           // [nk]
    T* dw;           // [nw]
    int64_t nq, nk, nw;
};

namespace cpu {
template <class T>
void indexer_kl_forward(const IndexerKlForward<T>& a);
template <class T>
void indexer_negentropy_forward(const IndexerNegentropyForward<T>& a);
template <class T>
void indexer_kl_backward(const IndexerKlBackward<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void indexer_kl_forward(const IndexerKlForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void indexer_negentropy_forward(const IndexerNegentropyForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void indexer_kl_backward(const IndexerKlBackward<T>& a);
}  // namespace cuda

}  // namespace sieve
