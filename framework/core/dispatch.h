// What every op's .cpp shares: picking the kernel for a dtype and a device, and checks whose sentences name
// the op. A check that passes takes no memory: so what follows it in an update cannot be left half done.
#pragma once

#include <string>

#include "framework/core/cuda/runtime.h"
#include "framework/core/error.h"
#include "framework/core/tensor.h"

namespace sieve {

// Calls f.template operator()<T>() with T = float or double. Throws for any other dtype, naming the op.
template <class F>
auto dispatch_float(const char* op, DType dtype, F&& f) {
    if (dtype == DType::float32) return f.template operator()<float>();
    if (dtype == DType::float64) return f.template operator()<double>();
    fail(std::string(op) + ": needs float32 or float64, has " + name_of(dtype));
}

// Runs the device's kernel. The twins have one signature, so that a mismatch does not compile. A CUDA kernel
// is given to the stream; nothing waits for it.
template <class Args>
void launch(const char* op, Device device, void (*cpu_kernel)(const Args&), void (*cuda_kernel)(const Args&),
            const Args& args) {
    if (device.is_cpu()) return cpu_kernel(args);
    const cuda::OpScope scope(op);
    cuda_kernel(args);
}

// For what exists on the CPU alone.
template <class Args>
void launch_on_cpu(const char* op, Device device, void (*cpu_kernel)(const Args&), const Args& args) {
    if (!device.is_cpu())
        fail(std::string(op) + ": runs on the CPU alone, its tensors are on " + to_string(device));
    cpu_kernel(args);
}

// "rms_norm: weight is [4], want [5]"
inline void check_shape(const char* op, const char* what, const Tensor& tensor, const Shape& want,
                        const char* why = "") {
    if (tensor.shape() == want) return;
    fail(std::string(op) + ": " + what + " is " + to_string(tensor.shape()) + ", want " + to_string(want) +
         (*why ? std::string(", ") + why : ""));
}
inline void check_shape(const char* op, const char* what, const Tensor& tensor, const Shape& want,
                        const std::string& why) {
    check_shape(op, what, tensor, want, why.c_str());
}

// "add: b is on cpu, want cuda:0, where a is"
inline void check_device(const char* op, const char* what, const Tensor& tensor, Device want,
                         const char* why) {
    if (tensor.device() == want) return;
    fail(std::string(op) + ": " + what + " is on " + to_string(tensor.device()) + ", want " +
         to_string(want) + ", where " + why + " is");
}

inline void check_dtype(const char* op, const char* what, const Tensor& tensor, DType want) {
    if (tensor.dtype() == want) return;
    fail(std::string(op) + ": " + what + " is " + name_of(tensor.dtype()) + ", want " + name_of(want));
}

// What the other operands of an op are measured by.
struct FirstOperand {
    const char* name;
    const Tensor& tensor;
};

// That an operand lies where the first one does, and has the dtype `want`, or the first one's.
inline void check_operand(const char* op, const char* what, const Tensor& tensor, const FirstOperand& first,
                          DType want) {
    check_dtype(op, what, tensor, want);
    check_device(op, what, tensor, first.tensor.device(), first.name);
}
inline void check_operand(const char* op, const char* what, const Tensor& tensor, const FirstOperand& first) {
    check_operand(op, what, tensor, first, first.tensor.dtype());
}

// That it has the first one's shape as well.
inline void check_same(const char* op, const char* what, const Tensor& tensor, const FirstOperand& first) {
    if (tensor.shape() != first.tensor.shape())
        check_shape(op, what, tensor, first.tensor.shape(), std::string("the shape of ") + first.name);
    check_operand(op, what, tensor, first);
}

inline void check_rank(const char* op, const char* what, const Tensor& tensor, int want) {
    if (tensor.rank() == want) return;
    fail(std::string(op) + ": " + what + " is " + to_string(tensor.shape()) + ", want " +
         std::to_string(want) + " dims");
}

}  // namespace sieve
