#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct CrossEntropyForward {
    const T* logits;         // [rows, vocab]
    const int32_t* targets;  // [rows]
    T* highest;              // [rows], the highest logit
    T* log_sum;              // [rows], log sum_v exp(logit - highest)
    T* losses;               // [rows]
    T* mean;                 // one element, mean of the losses; or null: not wanted
    int32_t* best;           // [rows], index of the highest logit; or null: not wanted
    double* score;           // [2], sum of the losses and rows whose best is the target; null where best is
    int64_t rows, vocab;
};

template <class T>
struct CrossEntropyBackward {
    const T* dloss;  // one element
    const T* logits;
    const int32_t* targets;
    const T* highest;
    const T* log_sum;
    T* dlogits;  // [rows, vocab]
    int64_t rows, vocab;
};

namespace cpu {
template <class T>
void cross_entropy_forward(const CrossEntropyForward<T>& a);
template <class T>
void cross_entropy_backward(const CrossEntropyBackward<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void cross_entropy_forward(const CrossEntropyForward<T>& a);
template <class T>
SIEVE_CUDA_TWIN void cross_entropy_backward(const CrossEntropyBackward<T>& a);
}  // namespace cuda

}  // namespace sieve
