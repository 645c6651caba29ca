// Muon (Keller Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024): momentum whose
// update is replaced by the nearest matrix with orthogonal rows or columns, approximately. For 2-D hidden
// matrices.
//
//   b <- b + (1 - momentum) (g - b)
//   u  = g + momentum (b - g)                             Nesterov's
//   X  = u / (||u||_F + 1e-7)
//   five times:
//       A  = X X^T                                        X^T X, on the right, when rows > cols
//       X <- 3.4445 X + (-4.7750 A + 2.0315 A A) X
//   p <- p - learning_rate sqrt(max(1, rows/cols)) X
//
// No weight decay. Computed in the parameter's own dtype, where the original casts u to bfloat16, which costs
// the update percents of its accuracy; at Precision::bf16 (core/precision.h) the products round their operands,
// which costs about the same, and more where most of a gradient lies in few directions: the iteration enlarges
// small singular values up to 480 times, and rounding's noise with them.
//
// Cost on the CPU. All five factors are polynomials of A, so they are symmetric m x m matrices that commute
// (m the smaller side), and several iterations can run on A alone before Q is applied to X:
//
//   P = 3.4445 I - 4.7750 A + 2.0315 A A,   A <- P A P,   Q <- P Q
//
// Only one triangle of each such product is computed. A matrix that is not square does so for 3 + 2
// iterations: in float32 this is as accurate as the literal iteration (1e-5 in the spectral norm on gradients
// of 256 x 512 whose spectrum decays). All five on A would be another tenth cheaper and lose a digit, because
// the rounding of A's small eigenvalues grows twelvefold in each. A square matrix saves nothing on A and goes
// back to X every time. At bf16 there are 2 + 2 + 1 iterations, a ninth more FLOPs for a matrix twice as wide as
// high: with three on A its negative eigenvalues, which only rounding makes, grow beyond what the polynomial
// bears (an 8 x 32 gradient of rank one plus a tenth of noise came out 380 times too large, and a small
// model did not train).
//
// On CUDA the iterations are the literal ones, whose products are fewer and larger, for all matrices of one
// shape together.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "framework/core/named_tensor.h"
#include "framework/optim/state.h"

namespace sieve {

// A parameter may hold several matrices, one below the other, such as the projections of queries, keys and
// values: returns the rows of each, in order, or nothing for a parameter that is one matrix.
using PackedRows = std::function<std::vector<int64_t>(const std::string& name)>;

struct MuonConfig {
    double momentum = 0.95;
    // Each of the matrices has an update of its own, as if it were a parameter: u is normalised and made
    // orthogonal, and scaled by its own rows and columns. As one matrix the part with the largest gradients
    // would be all that moves. Empty: every parameter is one matrix.
    PackedRows packed_rows = {};
};

class Muon {
  public:
    // Throws unless all parameters have two dims and one dtype and lie on one device, and packed rows add up to
    // the parameter's.
    Muon(const NamedTensors& parameters, const MuonConfig& config);
    // Parameters without a gradient are left as they are. On the CPU each matrix is one thread's work; the
    // bits do not depend on the number of threads. The halves of a step are those of AdamW.
    void step(double learning_rate);
    void prepare(double learning_rate);
    void apply(const Tensor& guard = {});  // core/guard.h
    std::function<void()> plan(const Tensor& guard = {});

    // Per parameter: <name>.momentum_buffer (itself, not a copy).
    NamedTensors state() const;
    void load_state(const NamedTensors& state);
    void load_state(StateReader& reader);  // takes this optimiser's entries and leaves the others

  private:
    struct Slot {
        NamedTensor parameter;
        Tensor momentum_buffer;
        std::vector<int64_t> rows;  // of each matrix in the parameter
    };
    template <class T>
    std::function<void()> plan_as(const double* guard);

    MuonConfig config_;
    Device device_;
    std::vector<Slot> slots_;  // in the order given
    Tensor learning_rate_;     // float64 scalar
};

}  // namespace sieve
