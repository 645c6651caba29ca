// AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019), as torch.optim.AdamW computes
// it. g is the gradient, t counts the steps in which the parameter had one.
//
//   p <- p (1 - learning_rate weight_decay)
//   m <- beta1 m + (1 - beta1) g              v <- beta2 v + (1 - beta2) g^2
//   p <- p - learning_rate/(1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//
// One pass over p, g, m and v per parameter. A parameter without a gradient is left as it is, decay included.
//
// A step has two halves: prepare() brings the learning rate to the device, and apply() does the rest there. A
// recorded CUDA graph may hold apply(): it reads the learning rate and counts the steps on the device.
#pragma once

#include <functional>
#include <vector>

#include "framework/core/named_tensor.h"
#include "framework/optim/state.h"

namespace sieve {

struct AdamWConfig {
    double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
};

class AdamW {
  public:
    // Throws unless all parameters lie on one device.
    AdamW(const NamedTensors& parameters, const AdamWConfig& config);
    void step(double learning_rate);  // both halves
    void prepare(double learning_rate);
    void apply(const Tensor& guard = {});  // core/guard.h
    // apply() in two: what can fail is done here, and calling the result cannot (on the CPU). So an update
    // that changes more than this can be all or nothing.
    std::function<void()> plan(const Tensor& guard = {});

    // Per parameter: <name>.exp_avg, <name>.exp_avg_sq, <name>.step (int64 scalar, t); themselves, not
    // copies.
    NamedTensors state() const;
    void load_state(const NamedTensors& state);
    void load_state(StateReader& reader);  // takes this optimiser's entries and leaves the others

  private:
    struct Slot {
        NamedTensor parameter;
        Tensor exp_avg, exp_avg_sq, steps;  // steps: a view of one element of steps_
    };
    template <class T>
    std::function<void()> plan_as(const double* guard);

    AdamWConfig config_;
    Device device_;
    std::vector<Slot> slots_;
    Tensor steps_;          // int64 [slots]
    Tensor learning_rate_;  // float64 scalar
};

}  // namespace sieve
