// Tensor: a contiguous, row-major block of one dtype on one device, with a place for its gradient.
//
// Copying a Tensor copies a handle: both see the same elements. There are no strides: an op that reorders
// data writes a new tensor; alias() and rows() are the only views, and both are contiguous.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "framework/core/device.h"
#include "framework/core/dtype.h"
#include "framework/core/shape.h"

namespace sieve {

struct Node;  // autograd/node.h: the op that made a tensor
struct TensorImpl;

class Tensor {
  public:
    Tensor() = default;  // undefined: no shape, no data

    static Tensor empty(const Shape& shape, DType dtype = DType::float32, Device device = {});
    static Tensor zeros(const Shape& shape, DType dtype = DType::float32, Device device = {});
    static Tensor full(const Shape& shape, double value, DType dtype = DType::float32, Device device = {});
    // Copies `values`; throws unless their number is shape.numel().
    template <class T>
    static Tensor from(std::span<const T> values, const Shape& shape, Device device = {});
    template <class T>
    static Tensor from(const std::vector<T>& values, const Shape& shape, Device device = {}) {
        return from(std::span<const T>(values), shape, device);
    }

    bool defined() const { return impl_ != nullptr; }
    const Shape& shape() const;
    int rank() const { return shape().rank(); }
    int64_t dim(int i) const { return shape().dim(i); }
    int64_t numel() const { return shape().numel(); }
    int64_t bytes() const { return numel() * static_cast<int64_t>(size_of(dtype())); }
    DType dtype() const;
    Device device() const;

    // The elements, where they are: a CUDA tensor's pointer is for kernels alone. Throws unless T is this
    // tensor's dtype.
    template <class T>
    T* data() const;
    void* raw() const;
    // Copies to the host; for a CUDA tensor this waits for the device.
    double item() const;  // the value of a one-element tensor
    template <class T>
    std::vector<T> to_vector() const;

    // Views: no copy, no gradient. alias: same elements under another shape of equal numel.
    // rows: elements [begin, end) of the outermost dim.
    Tensor alias(const Shape& other) const;
    Tensor rows(int64_t begin, int64_t end) const;
    // Copies without history; to() gives the tensor itself when its dtype or device is already so.
    Tensor clone() const;
    Tensor to(DType other) const;
    Tensor to(Device other) const;
    void copy_from(const Tensor& source) const;  // same shape, any device; converts the dtype
    void fill(double value) const;
    // True when no other tensor shares these elements: then they may be changed in place unseen.
    bool owns_storage_alone() const;

    // Gradients (autograd/). A leaf is a tensor with requires_grad that no op made.
    bool requires_grad() const;
    const Tensor& set_requires_grad(bool on) const;  // leaves only; floating point only
    Tensor grad() const;                             // undefined until a backward reached this leaf
    void set_grad(Tensor value) const;               // an undefined value clears it
    Tensor detach() const;                           // same elements, no history
    const std::shared_ptr<Node>& grad_node() const;
    int grad_output_index() const;
    void set_history(std::shared_ptr<Node> node, int output_index) const;

    bool is_same(const Tensor& other) const { return impl_ == other.impl_; }

  private:
    explicit Tensor(std::shared_ptr<TensorImpl> impl) : impl_(std::move(impl)) {}
    const TensorImpl& impl() const;

    std::shared_ptr<TensorImpl> impl_;
};

}  // namespace sieve
