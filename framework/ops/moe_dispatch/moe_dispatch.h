// Sorts tokens by expert, so that each expert works on one contiguous block of rows and only on its own
// tokens.
//
// The choice of expert e[n,j] occupies slot s = n K + j. A stable counting sort of the slots by expert gives
//
//   order[p]   = the slot at sorted position p           position[order[p]] = p
//   offsets[e] = the first position of expert e          it owns the positions [offsets[e], offsets[e+1])
//
//   y[p]  = x[order[p] / K]                              p in [0, N K)
//   dx[n] = sum_j dy[position[n K + j]]                  added in the order j = 0, 1, ..., K-1
//
// Only the plan is saved. Within an expert tokens keep their order; an expert may own no position.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

struct DispatchPlan {
    // Where `experts` is: on a CUDA device the host never learns them.
    Tensor order;        // int32 [N*K]
    Tensor position;     // int32 [N*K]
    Tensor offsets;      // int64 [E+1], from 0 to N*K
    int64_t tokens = 0;  // N
    int64_t top_k = 0;   // K

    int64_t num_experts() const { return offsets.numel() - 1; }
    int64_t slots() const { return tokens * top_k; }
};

// experts int32 [N,K] as moe_routing returns it. Throws when an expert is not in [0, num_experts) (on a CUDA
// device that is taken on trust).
DispatchPlan plan_dispatch(const Tensor& experts, int64_t num_experts);

// For the ops that read a plan, once they know its dtypes: on the CPU these throw unless every position is a
// slot, and unless the offsets ascend from 0 to all slots.
void check_positions(const char* op, const DispatchPlan& plan);
void check_offsets(const char* op, const DispatchPlan& plan);

// x [N,d], float32 or float64 -> [N*K,d], sorted by expert.
Tensor moe_dispatch(const Tensor& x, const DispatchPlan& plan);

}  // namespace sieve
