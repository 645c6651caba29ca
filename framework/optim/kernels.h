#pragma once

#include <cstdint>

#include "framework/core/cuda/twin.h"

namespace sieve {

template <class T>
struct AdamWStep {
    T* parameter;   // [count]
    const T* grad;  // [count]
    T* exp_avg;     // [count], m of adamw.h
    T* exp_avg_sq;  // [count], v
    int64_t count;
    double beta1, beta2, eps;
    double decay;              // 1 - learning_rate * weight_decay
    double step_size;          // learning_rate / (1 - beta1^t)
    double second_correction;  // 1 / sqrt(1 - beta2^t)
};

template <class T>
struct MuonMatrix {
    T* parameter;        // [rows, cols]
    const T* grad;       // [rows, cols]
    T* momentum_buffer;  // [rows, cols]
    int64_t rows, cols;
};

template <class T>
struct MuonStep {
    const MuonMatrix<T>* matrices;  // the costly ones first
    int64_t count;
    double momentum, learning_rate;
};

namespace cpu {
template <class T>
void adamw_step(const AdamWStep<T>& a);
template <class T>
void muon_step(const MuonStep<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void adamw_step(const AdamWStep<T>& a);
template <class T>
SIEVE_CUDA_TWIN void muon_step(const MuonStep<T>& a);
}  // namespace cuda

}  // namespace sieve
