// What allows a step to change something: a float64 scalar on the device of what would change. When it is not
// finite, nothing does, and the host need not know. Undefined: every step does.
#pragma once

#include "framework/core/dispatch.h"

namespace sieve {

inline const double* guard_pointer(const char* op, const Tensor& guard, const FirstOperand& first) {
    if (!guard.defined()) return nullptr;
    check_shape(op, "guard", guard, {});
    check_operand(op, "guard", guard, first, DType::float64);
    return guard.data<double>();
}

}  // namespace sieve
