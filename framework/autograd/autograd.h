// Reverse-mode automatic differentiation, define by run.
//
// An op computes its outputs and, when a gradient may be asked for, records a Node: which tensors it read,
// and a function from the gradients of its outputs to the gradients of its inputs. backward() walks the nodes
// from the newest to the oldest, adds up what arrives at each tensor, and frees each node as soon as it has
// been used.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "framework/core/tensor.h"

namespace sieve {

// Receives one gradient per output (undefined where none arrived) and returns one per input, in order
// (undefined for inputs that need none). It must return freshly computed values or the very tensors it
// received, never a buffer that somebody else will still change.
//
// What the lambda captures is what the op saves. An op that saves its own output must capture
// output.detach(): capturing the output itself would tie the node into a cycle that is never freed.
using BackwardFunction = std::function<std::vector<Tensor>(const std::vector<Tensor>& output_grads)>;

struct Node {
    // Where the gradient of one input goes: to the node that made it, or into a leaf's grad.
    struct Edge {
        std::shared_ptr<Node> node;  // set: the input was made by this node
        int output_index = 0;
        Tensor leaf;  // defined: the input is a leaf that wants a gradient
    };

    std::string op;
    const char* part;  // current_part() of the forward: the backward counts as the same (core/timed_part.h)
    uint64_t id = 0;   // creation order: every input's node has a smaller id
    std::vector<Edge> inputs;
    std::vector<Shape> output_shapes;
    std::vector<Tensor> output_grads;  // filled while backward() runs
    BackwardFunction backward;         // empty once used
    std::shared_ptr<Node> next_freed;  // of ~Node's list

    ~Node();
};

// Makes `outputs` the results of `op` applied to `inputs`. Does nothing under NoGrad or when no input wants a
// gradient. Undefined inputs are allowed (an absent optional) and receive nothing.
void record(const std::string& op, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
            BackwardFunction backward);

// Adds d(root)/d(leaf) to the grad of every leaf below `root`, a one-element tensor.
void backward(const Tensor& root);
// The same for several roots with given cotangents (same shape and dtype as the roots).
void backward(const std::vector<Tensor>& roots, const std::vector<Tensor>& cotangents);

bool grad_enabled();

// While one of these lives, ops on this thread record nothing.
class NoGrad {
  public:
    NoGrad();
    ~NoGrad();
    NoGrad(const NoGrad&) = delete;
    NoGrad& operator=(const NoGrad&) = delete;

  private:
    bool before_;
};

// target += source, elementwise, in place and without history.
void accumulate(const Tensor& target, const Tensor& source);

}  // namespace sieve
