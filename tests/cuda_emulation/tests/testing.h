// What the tests of the emulation share: arrays on the emulated device, launches, and children that must die.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "cuda_runtime.h"

namespace sieve::emulation_testing {

// A device allocation with the values of a vector, or with none.
template <class T>
class DeviceArray {
  public:
    explicit DeviceArray(size_t count) : count_(count) {
        REQUIRE(cudaMalloc(&data_, count * sizeof(T)) == cudaSuccess);
    }
    DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
        REQUIRE(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
    }
    ~DeviceArray() { cudaFree(data_); }
    DeviceArray(const DeviceArray&) = delete;
    DeviceArray& operator=(const DeviceArray&) = delete;

    T* data() const { return data_; }
    std::vector<T> host() const {
        std::vector<T> values(count_);
        REQUIRE(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
        return values;
    }

  private:
    T* data_ = nullptr;
    size_t count_;
};

struct Grid {
    dim3 blocks, threads;
    size_t shared_bytes = 0;
    cudaStream_t stream = nullptr;
};

template <class... Params, class... Args>
void launch(void (*kernel)(Params...), const Grid& grid, Args... args) {
    cuda_emulation::launch([=] { kernel(args...); }, grid.blocks, grid.threads, grid.shared_bytes, "test",
                           grid.stream, reinterpret_cast<const void*>(kernel));
}

// The message of what `body` throws; "" when it throws nothing.
std::string error_of(const std::function<void()>& body);
bool contains(const std::string& text, const std::string& part);

// Runs the body in a child process. Died: it did not come to its end; the output is what it wrote to stderr.
struct Child {
    bool died;
    std::string output;
};
Child run_in_child(const std::function<void()>& body);

constexpr bool address_sanitizer =
#ifdef __SANITIZE_ADDRESS__
    true;
#else
    false;
#endif

// Another order of blocks and threads, and of deferred streams, while it lives.
class Seed {
  public:
    explicit Seed(uint64_t seed) { cuda_emulation::set_seed(seed); }
    ~Seed() { cuda_emulation::set_seed(0); }
};
class Deferred {
  public:
    Deferred() { cuda_emulation::set_deferred(true); }
    ~Deferred() { cuda_emulation::set_deferred(false); }
};

}  // namespace sieve::emulation_testing
