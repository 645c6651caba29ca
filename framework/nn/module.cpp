#include "framework/nn/module.h"

#include "framework/core/allocator.h"
#include "framework/core/threads.h"

namespace sieve {
namespace {

constexpr MemoryUse parameter_memory{"parameters", {SizeKind::width, SizeKind::layers, SizeKind::experts}};

// FNV-1a: stable across machines and builds, which std::hash does not promise.
uint64_t stable_hash(const std::string& text) {
    uint64_t hash = 0xcbf29ce484222325ull;
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
    return hash;
}

std::string prefix_of(const std::string& child) {
    return child.empty() ? "" : child + ".";
}

}  // namespace

Tensor ParameterInit::normal(const std::string& full_name, const Shape& shape) const {
    if (std == 0) return constant(shape, 0);
    const MemoryScope scope(parameter_memory);
    const Tensor numbers = Tensor::empty(shape, DType::float64);
    double* data = numbers.data<double>();
    const RngKey key{seed, stable_hash(full_name)};
    parallel_for(numbers.numel(), 1 << 12, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) data[i] = std * normal_at(key, static_cast<uint64_t>(i));
    });
    return numbers.to(dtype).to(device);
}

Tensor ParameterInit::constant(const Shape& shape, double value) const {
    const MemoryScope scope(parameter_memory);
    return Tensor::full(shape, value, dtype, device);
}

NamedTensors Module::parameters(const std::string& prefix) const {
    NamedTensors all;
    for (const NamedTensor& p : own_) all.push_back({prefix + p.name, p.tensor});
    for (const auto& [name, child] : children_)
        for (NamedTensor& p : child->parameters(prefix + prefix_of(name))) all.push_back(std::move(p));
    return all;
}

NamedTensors Module::buffers(const std::string& prefix) const {
    NamedTensors all;
    for (const NamedTensor& b : own_buffers_) all.push_back({prefix + b.name, b.tensor});
    for (const auto& [name, child] : children_)
        for (NamedTensor& b : child->buffers(prefix + prefix_of(name))) all.push_back(std::move(b));
    return all;
}

Tensor Module::add_parameter(const std::string& name, const Tensor& value) {
    value.set_requires_grad(true);
    own_.push_back({name, value});
    return value;
}

Tensor Module::add_buffer(const std::string& name, const Tensor& value) {
    own_buffers_.push_back({name, value});
    return value;
}

void Module::add_child(const std::string& name, const Module& child) {
    children_.emplace_back(name, &child);
}

}  // namespace sieve
