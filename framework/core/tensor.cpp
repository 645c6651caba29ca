#include "framework/core/tensor.h"

#include <cstring>

#include "framework/core/allocator.h"
#include "framework/core/error.h"

namespace sieve {

struct Storage {
    Storage(int64_t size, Device where) : data(allocate(size, where)), bytes(size), device(where) {}
    ~Storage() { deallocate(data, bytes, device); }
    Storage(const Storage&) = delete;
    Storage& operator=(const Storage&) = delete;

    void* data;
    int64_t bytes;
    Device device;
};

struct TensorImpl {
    std::shared_ptr<Storage> storage;
    int64_t offset = 0;  // in elements
    Shape shape;
    DType dtype = DType::float32;
    // Autograd state: not part of the value, so mutable through const handles.
    mutable bool requires_grad = false;
    mutable Tensor grad;
    mutable std::shared_ptr<Node> node;
    mutable int output_index = 0;
};

namespace {

// Calls f with a null pointer of the element type that `dtype` names.
template <class F>
void with_type(DType dtype, F&& f) {
    switch (dtype) {
        case DType::float32:
            return f(static_cast<float*>(nullptr));
        case DType::float64:
            return f(static_cast<double*>(nullptr));
        case DType::int32:
            return f(static_cast<int32_t*>(nullptr));
        case DType::int64:
            return f(static_cast<int64_t*>(nullptr));
        case DType::uint8:
            return f(static_cast<uint8_t*>(nullptr));
    }
}

}  // namespace

const TensorImpl& Tensor::impl() const {
    if (!impl_) fail("tensor: used before it was given a value");
    return *impl_;
}

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
    auto impl = std::make_shared<TensorImpl>();
    impl->storage = std::make_shared<Storage>(shape.numel() * static_cast<int64_t>(size_of(dtype)), device);
    impl->shape = shape;
    impl->dtype = dtype;
    return Tensor(std::move(impl));
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
    Tensor result = empty(shape, dtype, device);
    std::memset(result.raw(), 0, static_cast<size_t>(result.bytes()));
    return result;
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
    Tensor result = empty(shape, dtype, device);
    result.fill(value);
    return result;
}

template <class T>
Tensor Tensor::from(std::span<const T> values, const Shape& shape, Device device) {
    if (static_cast<int64_t>(values.size()) != shape.numel())
        fail("tensor: " + std::to_string(values.size()) + " values for shape " + to_string(shape));
    Tensor result = empty(shape, dtype_of<T>, device);
    if (!values.empty()) std::memcpy(result.raw(), values.data(), values.size_bytes());
    return result;
}

const Shape& Tensor::shape() const {
    return impl().shape;
}
DType Tensor::dtype() const {
    return impl().dtype;
}
Device Tensor::device() const {
    return impl().storage->device;
}

void* Tensor::raw() const {
    const TensorImpl& t = impl();
    return static_cast<char*>(t.storage->data) + t.offset * static_cast<int64_t>(size_of(t.dtype));
}

template <class T>
T* Tensor::data() const {
    if (dtype() != dtype_of<T>)
        fail(std::string("tensor: holds ") + name_of(dtype()) + ", asked for " + name_of(dtype_of<T>));
    return static_cast<T*>(raw());
}

double Tensor::item() const {
    if (numel() != 1) fail("tensor: item() needs one element, has shape " + to_string(shape()));
    double value = 0;
    with_type(dtype(), [&]<class T>(T*) { value = static_cast<double>(*data<T>()); });
    return value;
}

template <class T>
std::vector<T> Tensor::to_vector() const {
    const T* begin = data<T>();
    return std::vector<T>(begin, begin + numel());
}

Tensor Tensor::alias(const Shape& other) const {
    if (other.numel() != numel())
        fail("tensor: cannot view " + to_string(shape()) + " as " + to_string(other));
    auto view = std::make_shared<TensorImpl>();
    view->storage = impl().storage;
    view->offset = impl().offset;
    view->shape = other;
    view->dtype = impl().dtype;
    return Tensor(std::move(view));
}

Tensor Tensor::rows(int64_t begin, int64_t end) const {
    if (rank() == 0 || begin < 0 || begin > end || end > dim(0))
        fail("tensor: rows [" + std::to_string(begin) + ", " + std::to_string(end) + ") of " +
             to_string(shape()));
    Shape part{end - begin};
    for (int i = 1; i < rank(); ++i) part.append(dim(i));
    const int64_t row_elements = dim(0) ? numel() / dim(0) : 0;
    auto view = std::make_shared<TensorImpl>();
    view->storage = impl().storage;
    view->offset = impl().offset + begin * row_elements;
    view->shape = part;
    view->dtype = impl().dtype;
    return Tensor(std::move(view));
}

Tensor Tensor::clone() const {
    Tensor copy = empty(shape(), dtype(), device());
    copy.copy_from(*this);
    return copy;
}

Tensor Tensor::to(DType other) const {
    if (other == dtype()) return *this;
    Tensor copy = empty(shape(), other, device());
    copy.copy_from(*this);
    return copy;
}

void Tensor::copy_from(const Tensor& source) const {
    if (source.shape() != shape())
        fail("tensor: cannot copy " + to_string(source.shape()) + " into " + to_string(shape()));
    if (source.dtype() == dtype()) {
        if (numel()) std::memcpy(raw(), source.raw(), static_cast<size_t>(bytes()));
        return;
    }
    with_type(dtype(), [&]<class To>(To*) {
        with_type(source.dtype(), [&]<class From>(From*) {
            To* to = data<To>();
            const From* from = source.data<From>();
            for (int64_t i = 0; i < numel(); ++i) to[i] = static_cast<To>(from[i]);
        });
    });
}

void Tensor::fill(double value) const {
    with_type(dtype(), [&]<class T>(T*) {
        T* begin = data<T>();
        std::fill(begin, begin + numel(), static_cast<T>(value));
    });
}

bool Tensor::owns_storage_alone() const {
    return impl().storage.use_count() == 1 && impl_.use_count() == 1;
}

bool Tensor::requires_grad() const {
    return impl_ && (impl_->requires_grad || impl_->node);
}

const Tensor& Tensor::set_requires_grad(bool on) const {
    if (on && !is_floating(dtype()))
        fail(std::string("autograd: a ") + name_of(dtype()) + " tensor has no gradient");
    if (impl().node) fail("autograd: requires_grad can only be set on a leaf; detach() first");
    impl().requires_grad = on;
    return *this;
}

Tensor Tensor::grad() const {
    return impl().grad;
}

void Tensor::set_grad(Tensor value) const {
    if (value.defined() && (value.shape() != shape() || value.dtype() != dtype()))
        fail("autograd: gradient " + to_string(value.shape()) + " " + name_of(value.dtype()) +
             " for a tensor " + to_string(shape()) + " " + name_of(dtype()));
    impl().grad = std::move(value);
}

Tensor Tensor::detach() const {
    return alias(shape());
}

const std::shared_ptr<Node>& Tensor::grad_node() const {
    return impl().node;
}
int Tensor::grad_output_index() const {
    return impl().output_index;
}

void Tensor::set_history(std::shared_ptr<Node> node, int output_index) const {
    impl().node = std::move(node);
    impl().output_index = output_index;
}

#define SIEVE_INSTANTIATE(T)                                                \
    template Tensor Tensor::from(std::span<const T>, const Shape&, Device); \
    template T* Tensor::data<T>() const;                                    \
    template std::vector<T> Tensor::to_vector<T>() const;
SIEVE_INSTANTIATE(float)
SIEVE_INSTANTIATE(double)
SIEVE_INSTANTIATE(int32_t)
SIEVE_INSTANTIATE(int64_t)
SIEVE_INSTANTIATE(uint8_t)
#undef SIEVE_INSTANTIATE

}  // namespace sieve
