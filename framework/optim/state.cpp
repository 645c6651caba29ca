#include "framework/optim/state.h"

#include "framework/core/error.h"

namespace sieve {

StateReader::StateReader(const NamedTensors& state) {
    for (const auto& [name, tensor] : state)
        if (!left_.emplace(name, tensor).second) fail_bad_file("optimizer state: a name occurs twice");
}

Tensor StateReader::take(const std::string& name, const Shape& shape, DType dtype) {
    const auto found = left_.find(name);
    if (found == left_.end()) fail_bad_file("optimizer state: has no " + name);
    const Tensor tensor = found->second;
    if (tensor.shape() != shape || tensor.dtype() != dtype)
        fail_bad_file("optimizer state: " + name + " is " + to_string(tensor.shape()) + " " +
                      name_of(tensor.dtype()) + ", want " + to_string(shape) + " " + name_of(dtype));
    left_.erase(found);
    return tensor;
}

void StateReader::expect_end() const {
    if (left_.empty()) return;
    fail_bad_file("optimizer state: " + left_.begin()->first + " belongs to no parameter of this optimiser");
}

}  // namespace sieve
