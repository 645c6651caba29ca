// What allows an optimiser to take a step: a float64 scalar on the device of the parameters. When it is not
// finite, the step changes nothing, and the host need not know. Undefined: every step is taken.
#pragma once

#include "framework/core/dispatch.h"

namespace sieve {

inline const double* guard_pointer(const char* op, const Tensor& guard, Device device) {
    if (!guard.defined()) return nullptr;
    check_shape(op, "guard", guard, {});
    check_device(op, "guard", guard, device, "the first parameter");
    return guard.data<double>();
}

}  // namespace sieve
