#include "framework/autograd/autograd.h"

#include <atomic>
#include <queue>

#include "framework/core/allocator.h"
#include "framework/core/dispatch.h"
#include "framework/core/elements.h"
#include "framework/core/error.h"
#include "framework/core/timed_part.h"

namespace sieve {
namespace {

thread_local bool gradients_on = true;
std::atomic<uint64_t> next_node_id{1};

// Adds `grad` to `slot`. The first arrival is kept as it is; a slot is only changed in place when nobody else
// can see its elements.
void add_to_slot(Tensor& slot, const Tensor& grad) {
    if (!slot.defined()) {
        slot = grad;
        return;
    }
    if (!slot.owns_storage_alone()) slot = slot.clone();
    accumulate(slot, grad);
}

void add_to_leaf(const Tensor& leaf, Tensor grad) {
    Tensor have = leaf.grad();
    if (have.defined()) {
        accumulate(have, grad);
    } else {
        leaf.set_grad(grad.owns_storage_alone() ? std::move(grad) : grad.clone());
    }
}

struct OlderNode {
    bool operator()(const std::shared_ptr<Node>& a, const std::shared_ptr<Node>& b) const {
        return a->id < b->id;
    }
};
// Newest first. An input's node is always older than the node that reads it, so when a node is popped every
// gradient of its outputs has arrived.
using NodeQueue = std::priority_queue<std::shared_ptr<Node>, std::vector<std::shared_ptr<Node>>, OlderNode>;

void deliver(Node& node, int output_index, const Tensor& grad, const std::shared_ptr<Node>& handle,
             NodeQueue& queue) {
    if (!node.backward)
        fail("autograd: backward() a second time through '" + node.op +
             "': its graph was freed by the first");
    bool waiting = false;
    for (const Tensor& g : node.output_grads) waiting = waiting || g.defined();
    add_to_slot(node.output_grads[static_cast<size_t>(output_index)], grad);
    if (!waiting) queue.push(handle);
}

void check_gradients(const Node& node, const std::vector<Tensor>& grads) {
    if (grads.size() != node.inputs.size())
        fail("autograd: '" + node.op + "' returned " + std::to_string(grads.size()) + " gradients for " +
             std::to_string(node.inputs.size()) + " inputs");
}

void run(const std::shared_ptr<Node>& node, NodeQueue& queue) {
    const TimedPart part(node->part, Pass::backward);
    std::vector<Tensor> grads = node->backward(node->output_grads);
    check_gradients(*node, grads);
    node->backward = nullptr;  // frees what the op saved
    for (Tensor& g : node->output_grads) g = Tensor();
    for (size_t i = 0; i < grads.size(); ++i) {
        Node::Edge edge = std::move(node->inputs[i]);
        Tensor grad = std::move(grads[i]);
        if (!grad.defined()) continue;
        if (edge.node) deliver(*edge.node, edge.output_index, grad, edge.node, queue);
        if (edge.leaf.defined()) add_to_leaf(edge.leaf, std::move(grad));
    }
    node->inputs.clear();
}

}  // namespace

// A long chain of nodes must not be freed by recursion: each node hands those of its inputs' nodes that
// nobody else holds to a list instead. The list is made of the nodes: this also runs where there is no more
// memory.
Node::~Node() {
    std::shared_ptr<Node> freed;
    const auto take_inputs = [&freed](Node& node) {
        node.backward = nullptr;  // what it saved may hold the inputs' nodes, which the edges still keep
        for (Edge& edge : node.inputs) {
            if (edge.node.use_count() == 1) {
                edge.node->next_freed = std::move(freed);
                freed = std::move(edge.node);
            }
            edge.node = nullptr;
        }
        node.inputs.clear();
    };
    take_inputs(*this);
    while (freed) {
        const std::shared_ptr<Node> node = std::move(freed);
        freed = std::move(node->next_freed);
        take_inputs(*node);
    }
}

void record(const std::string& op, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
            BackwardFunction backward) {
    if (!gradients_on) return;
    bool wanted = false;
    for (const Tensor& input : inputs) wanted = wanted || input.requires_grad();
    if (!wanted) return;

    auto node = std::make_shared<Node>();
    node->op = op;
    node->part = current_part();
    node->id = next_node_id++;
    for (const Tensor& input : inputs) {
        Node::Edge edge;
        if (input.requires_grad()) {
            edge.node = input.grad_node();
            edge.output_index = input.grad_output_index();
            if (!edge.node) edge.leaf = input;
        }
        node->inputs.push_back(std::move(edge));
    }
    node->output_grads.resize(outputs.size());
    node->backward = std::move(backward);
    for (size_t i = 0; i < outputs.size(); ++i) {
        node->output_shapes.push_back(outputs[i].shape());
        outputs[i].set_history(node, static_cast<int>(i));
    }
}

void backward(const Tensor& root) {
    if (root.numel() != 1)
        fail("autograd: backward() without a cotangent needs a one-element root, has " +
             to_string(root.shape()));
    backward({root}, {Tensor::full(root.shape(), 1.0, root.dtype(), root.device())});
}

void backward(const std::vector<Tensor>& roots, const std::vector<Tensor>& cotangents) {
    if (roots.size() != cotangents.size())
        fail("autograd: " + std::to_string(cotangents.size()) + " cotangents for " +
             std::to_string(roots.size()) + " roots");
    const NoGrad guard;
    const MemoryScope scope({"gradients", {SizeKind::batch, SizeKind::length}});
    NodeQueue queue;
    for (size_t i = 0; i < roots.size(); ++i) {
        if (!roots[i].requires_grad())
            fail("autograd: root " + std::to_string(i) + " does not depend on any leaf");
        check_same("autograd", ("cotangent " + std::to_string(i)).c_str(), cotangents[i],
                   {"its root", roots[i]});
        const std::shared_ptr<Node>& node = roots[i].grad_node();
        if (node)
            deliver(*node, roots[i].grad_output_index(), cotangents[i], node, queue);
        else
            add_to_leaf(roots[i], cotangents[i]);
    }
    while (!queue.empty()) {
        const std::shared_ptr<Node> node = queue.top();
        queue.pop();
        run(node, queue);
    }
}

bool grad_enabled() {
    return gradients_on;
}
NoGrad::NoGrad() : before_(gradients_on) {
    gradients_on = false;
}
NoGrad::~NoGrad() {
    gradients_on = before_;
}

void accumulate(const Tensor& target, const Tensor& source) {
    if (target.shape() != source.shape() || target.dtype() != source.dtype() ||
        target.device() != source.device())
        fail("accumulate: " + to_string(source.shape()) + " " + name_of(source.dtype()) + " into " +
             to_string(target.shape()) + " " + name_of(target.dtype()) +
             (target.device() == source.device() ? "" : " on another device"));
    const auto add = [&]<class T>() {
        const Accumulate<T> args{
            .target = target.data<T>(), .source = source.data<T>(), .count = target.numel()};
        if (target.device().is_cpu())
            cpu::accumulate(args);
        else
            cuda::accumulate(args);
    };
    if (target.dtype() == DType::float32)
        add.template operator()<float>();
    else
        add.template operator()<double>();
}

}  // namespace sieve
