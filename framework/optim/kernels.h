#pragma once

#include <cstdint>
#include <vector>

#include "framework/core/cuda/twin.h"
#include "framework/core/tensor.h"

namespace sieve {

// Lists of tensors lie on the host. What changes from step to step is read from the memory of the device, so
// that a recorded step reads it anew.

template <class T>
struct AdamWTensor {
    T* parameter;    // [count]
    const T* grad;   // [count]
    T* exp_avg;      // [count], m of adamw.h
    T* exp_avg_sq;   // [count], v
    int64_t* steps;  // one number, t: counts the steps in which the parameter had a gradient
    int64_t count;
};

template <class T>
struct AdamWStep {
    const AdamWTensor<T>* tensors;
    int64_t count;
    const double* learning_rate;  // one number
    const double* guard;          // one number: nothing is changed when it is not finite; or null
    double beta1, beta2, eps, weight_decay;
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
    double momentum;
    const double* learning_rate;  // one number
    const double* guard;          // as above
    // Of the CPU alone: muon_scratch, [workers, worker_elements].
    T* scratch = nullptr;
    int64_t workers = 0, worker_elements = 0;
};

template <class T>
struct Gradient {
    T* grad;  // [count]
    int64_t count;
};

template <class T>
struct ClipGradients {
    const Gradient<T>* gradients;
    int64_t count;
    double max_norm;
    double* norm;  // one number: where the norm before clipping goes
};

namespace cpu {
template <class T>
void adamw_step(const AdamWStep<T>& a);
// Takes all the memory that muon_step needs, and returns room for one matrix of each thread that works on
// some: [threads, elements].
template <class T>
Tensor muon_scratch(const std::vector<MuonMatrix<T>>& matrices);
template <class T>
void muon_step(const MuonStep<T>& a);
template <class T>
void clip_gradients(const ClipGradients<T>& a);
}  // namespace cpu

namespace cuda {
template <class T>
SIEVE_CUDA_TWIN void adamw_step(const AdamWStep<T>& a);
template <class T>
SIEVE_CUDA_TWIN void muon_step(const MuonStep<T>& a);
template <class T>
SIEVE_CUDA_TWIN void clip_gradients(const ClipGradients<T>& a);
}  // namespace cuda

}  // namespace sieve
