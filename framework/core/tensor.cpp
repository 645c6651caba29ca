#include "framework/core/tensor.h"

#include <cstring>
#include <limits>

#include "framework/core/allocator.h"
#include "framework/core/cuda/runtime.h"
#include "framework/core/elements.h"
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

void copy_bytes(void* to, Device to_device, const void* from, Device from_device, int64_t bytes) {
    if (bytes == 0) return;
    if (to_device.is_cpu() && from_device.is_cpu())
        std::memcpy(to, from, static_cast<size_t>(bytes));
    else if (to_device.is_cpu())
        cuda::copy_to_host(to, from, bytes);
    else if (from_device.is_cpu())
        cuda::copy_to_device(to, from, bytes);
    else
        cuda::copy_on_device(to, from, bytes);
}

}  // namespace

const TensorImpl& Tensor::impl() const {
    if (!impl_) fail("tensor: used before it was given a value");
    return *impl_;
}

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
    int64_t bytes = 0;
    if (__builtin_mul_overflow(shape.numel(), static_cast<int64_t>(size_of(dtype)), &bytes))
        bytes = std::numeric_limits<int64_t>::max();  // which no allocator has
    auto impl = std::make_shared<TensorImpl>();
    impl->storage = std::make_shared<Storage>(bytes, device);
    impl->shape = shape;
    impl->dtype = dtype;
    return Tensor(std::move(impl));
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
    Tensor result = empty(shape, dtype, device);
    if (device.is_cpu())
        std::memset(result.raw(), 0, static_cast<size_t>(result.bytes()));
    else
        cuda::fill_zero(result.raw(), result.bytes());
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
    copy_bytes(result.raw(), device, values.data(), Device{}, result.bytes());
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
    if (!device().is_cpu()) cuda::note_operand(shape());
    return static_cast<T*>(raw());
}

double Tensor::item() const {
    if (numel() != 1) fail("tensor: item() needs one element, has shape " + to_string(shape()));
    double value = 0;
    with_type(dtype(), [&]<class T>(T*) {
        T element;
        copy_bytes(&element, Device{}, data<T>(), device(), sizeof(T));
        value = static_cast<double>(element);
    });
    return value;
}

template <class T>
std::vector<T> Tensor::to_vector() const {
    const T* begin = data<T>();
    if (device().is_cpu()) return std::vector<T>(begin, begin + numel());
    std::vector<T> values(static_cast<size_t>(numel()));
    copy_bytes(values.data(), Device{}, begin, device(), bytes());
    return values;
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

Tensor Tensor::to(Device other) const {
    if (other == device()) return *this;
    Tensor copy = empty(shape(), dtype(), other);
    copy.copy_from(*this);
    return copy;
}

void Tensor::copy_from(const Tensor& source) const {
    if (source.shape() != shape())
        fail("tensor: cannot copy " + to_string(source.shape()) + " into " + to_string(shape()));
    if (source.dtype() == dtype()) return copy_bytes(raw(), device(), source.raw(), source.device(), bytes());
    // Converted where the source lies, then moved.
    if (source.device() != device()) return copy_from(source.to(dtype()));
    with_type(dtype(), [&]<class To>(To*) {
        with_type(source.dtype(), [&]<class From>(From*) {
            const Convert<To, From> args{.y = data<To>(), .x = source.data<From>(), .count = numel()};
            if (device().is_cpu())
                cpu::convert(args);
            else
                cuda::convert(args);
        });
    });
}

void Tensor::fill(double value) const {
    with_type(dtype(), [&]<class T>(T*) {
        const Fill<T> args{.y = data<T>(), .count = numel(), .value = static_cast<T>(value)};
        if (device().is_cpu())
            cpu::fill(args);
        else
            cuda::fill(args);
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
    if (value.defined() &&
        (value.shape() != shape() || value.dtype() != dtype() || value.device() != device()))
        fail("autograd: gradient " + to_string(value.shape()) + " " + name_of(value.dtype()) + " on " +
             to_string(value.device()) + " for a tensor " + to_string(shape()) + " " + name_of(dtype()) +
             " on " + to_string(device()));
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

// NOLINTBEGIN(bugprone-macro-parentheses): a type cannot stand in parentheses.
#define SIEVE_INSTANTIATE(T)                                                \
    template Tensor Tensor::from(std::span<const T>, const Shape&, Device); \
    template T* Tensor::data<T>() const;                                    \
    template std::vector<T> Tensor::to_vector<T>() const;
// NOLINTEND(bugprone-macro-parentheses)
SIEVE_INSTANTIATE(float)
SIEVE_INSTANTIATE(double)
SIEVE_INSTANTIATE(int32_t)
SIEVE_INSTANTIATE(int64_t)
SIEVE_INSTANTIATE(uint8_t)
#undef SIEVE_INSTANTIATE

}  // namespace sieve
