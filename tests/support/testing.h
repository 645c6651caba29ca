// What the tests share: random inputs, comparison, gradient checks by finite differences, skipping.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "framework/core/rng.h"
#include "framework/core/tensor.h"

namespace sieve::testing {

// The devices that a test body runs on: the CPU, and the CUDA device when there is one. `--devices=cpu|cuda`
// of the runner narrows the list, and the emulated device is a CUDA device like any other.
const std::vector<Device>& test_devices();
// True on the emulated device, which is thousands of times slower: tests then leave their larger sizes out.
bool is_emulated(Device device);

// A test case whose body runs once a device:
//
//   DEVICE_TEST_CASE("rms_norm: gradients", device) { ... .to(device) ... }
#define DEVICE_TEST_CASE(name, device) \
    SIEVE_DEVICE_TEST_CASE(name, device, DOCTEST_ANONYMOUS(sieve_device_test_))
#define SIEVE_DEVICE_TEST_CASE(name, device, body)                             \
    static void body(const ::sieve::Device& device);                           \
    TEST_CASE(name* doctest::test_suite("device")) {                           \
        for (const ::sieve::Device& each : ::sieve::testing::test_devices()) { \
            INFO("on " << ::sieve::to_string(each));                           \
            body(each);                                                        \
        }                                                                      \
    }                                                                          \
    static void body(const ::sieve::Device& device)

// Deterministic random tensors on the CPU: the same seed gives the same numbers.
Tensor random_normal(const Shape& shape, uint64_t seed, DType dtype = DType::float64, double scale = 1.0);
Tensor random_uniform(const Shape& shape, uint64_t seed, double low, double high,
                      DType dtype = DType::float64);
Tensor random_tokens(const Shape& shape, uint64_t seed, int32_t vocabulary);  // int32

// The tensors below may lie on any devices.
double max_abs_difference(const Tensor& a, const Tensor& b);
// max |a-b| / max(|b|): the scale is the largest element of b. 0 for two empty tensors.
double relative_difference(const Tensor& a, const Tensor& b);
// sum (a-b)^2 / sum b^2; 0 for two equal tensors.
double normalised_squared_error(const Tensor& a, const Tensor& b);
bool bit_identical(const Tensor& a, const Tensor& b);

struct GradientCheck {
    double step = 1e-5;       // central differences
    double tolerance = 1e-6;  // relative to the largest gradient of the input (or to 1 when that is smaller)
    uint64_t seed = 1;        // of the cotangents
    Device device = {};       // where f is given its inputs; the inputs themselves may lie anywhere
};

// Checks d(outputs)/d(inputs) of `f` in float64 by central differences along every single input element:
//  - every output gets a random cotangent (a plain sum hides the errors of softmax-like backwards);
//  - every leaf's grad starts at a non-zero value, so that an assignment in place of a sum is seen;
//  - `inputs` that do not require grad are passed through and not differentiated.
// Inputs are expected to lie away from ties and kinks. Reports through doctest; `what` names the case.
using DifferentiableFunction = std::function<std::vector<Tensor>(const std::vector<Tensor>& inputs)>;
void check_gradients(const std::string& what, const DifferentiableFunction& f,
                     const std::vector<Tensor>& inputs, const GradientCheck& options = {});

// Checks that f gives the same on `device` as on the CPU in float32 (or float64), at whatever precision(): its outputs, and the gradients of all inputs that
// require grad under random cotangents, each by its normalised squared error; and that a second run there
// gives the same bits. Integer outputs must be equal. Undefined inputs are passed through.
void check_agrees_with_cpu(const std::string& what, const DifferentiableFunction& f,
                           const std::vector<Tensor>& inputs, Device device, double bound);

// Runs f and checks that it throws a sieve::Error whose message is exactly `message`.
void check_error(const std::string& message, const std::function<void()>& f);

// Whether tests run in their full form, which takes hours where the quick one takes seconds: SIEVE_FULL=1 in
// the environment, as `make test-full` sets it.
bool full_tests();

// Marks the running test case as skipped: it counts neither as passed nor as failed. Return right after it.
void skip(const std::string& reason);

}  // namespace sieve::testing
