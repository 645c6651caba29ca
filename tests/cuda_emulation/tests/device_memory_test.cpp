// Device memory: the host cannot touch it, its contents are nonsense until written, its bounds are watched.
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "tests/cuda_emulation/tests/testing.h"

using namespace sieve;
using namespace sieve::emulation_testing;

namespace {

__global__ void write_kernel(int* x, int index) {
    x[index] = 1;
}
__global__ void read_kernel(const int* x, int index, int* y) {
    *y = x[index];
}

}  // namespace

TEST_CASE("emulation: new device memory is NaN, aligned, and counted") {
    size_t free_before = 0, free_after = 0, total = 0;
    REQUIRE(cudaMemGetInfo(&free_before, &total) == cudaSuccess);
    {
        DeviceArray<float> x(33), y(1);
        CHECK(reinterpret_cast<uintptr_t>(x.data()) % 256 == 0);
        CHECK(reinterpret_cast<uintptr_t>(y.data()) % 256 == 0);
        for (float value : x.host()) CHECK(std::isnan(value));
        cudaMemGetInfo(&free_after, &total);
        CHECK(free_before - free_after == 34 * sizeof(float));
    }
    cudaMemGetInfo(&free_after, &total);
    CHECK(free_before == free_after);
    cudaDeviceProp properties{};
    REQUIRE(cudaGetDeviceProperties(&properties, 0) == cudaSuccess);
    CHECK(properties.totalGlobalMem == total);
    CHECK(std::string(properties.name) == "CUDA emulation");
    int* nothing = nullptr;
    CHECK(cudaMalloc(&nothing, 0) == cudaSuccess);
    CHECK(nothing == nullptr);
    CHECK(cudaFree(nullptr) == cudaSuccess);
}

TEST_CASE("emulation: the host dies when it touches device memory") {
    DeviceArray<int> x(std::vector<int>{1, 2, 3});
    int* pointer = x.data();
    int sum = 0;
    for (const auto& body :
         std::vector<std::function<void()>>{[&] { sum += pointer[2]; }, [&] { pointer[2] = 1; }}) {
        const Child child = run_in_child([&] {
            body();
            if (sum == 12345) _exit(0);
        });
        CHECK(child.died);
        CHECK(contains(child.output, "host code touched device memory: byte 8 of an allocation of 12 bytes"));
    }
    CHECK(x.host() == std::vector<int>{1, 2, 3});
}

TEST_CASE("emulation: copies check their ends") {
    DeviceArray<int> x(std::vector<int>{1, 2, 3, 4});
    int host[4] = {};
    CHECK(cudaMemcpy(host, x.data(), 16, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
    CHECK(cudaMemcpy(host, x.data(), 17, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
    CHECK(cudaMemcpy(host, x.data() + 1, 16, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
    CHECK(cudaMemset(host, 0, 16) == cudaErrorInvalidValue);
    CHECK(cudaMemset(x.data(), 0, 20) == cudaErrorInvalidValue);
    CHECK(cudaPeekAtLastError() == cudaErrorInvalidValue);
    CHECK(cudaGetLastError() == cudaErrorInvalidValue);
    CHECK(cudaGetLastError() == cudaSuccess);
    CHECK(std::string(cudaGetErrorString(cudaErrorInvalidValue)) == "invalid argument");
    CHECK(cudaMemcpy(host, x.data() + 1, 12, cudaMemcpyDefault) == cudaSuccess);
    CHECK(host[2] == 4);
    CHECK(cudaMemset(x.data() + 1, 0, 8) == cudaSuccess);
    CHECK(cudaMemcpy(x.data() + 2, x.data() + 3, 4, cudaMemcpyDeviceToDevice) == cudaSuccess);
    CHECK(x.host() == std::vector<int>{1, 0, 4, 4});
    CHECK(cudaFree(host) == cudaErrorInvalidValue);
    CHECK(cudaFree(x.data() + 1) == cudaErrorInvalidValue);
    cudaGetLastError();
}

TEST_CASE("emulation: an access outside of an allocation is caught") {
    DeviceArray<int> x(33), y(1);
    CHECK(error_of([&] { launch(write_kernel, {.blocks = 1, .threads = 1}, x.data(), 32); }) == "");
    for (int index : {33, 90}) {
        CAPTURE(index);
        if (address_sanitizer) {
            const Child child =
                run_in_child([&] { launch(write_kernel, {.blocks = 1, .threads = 1}, x.data(), index); });
            CHECK(child.died);
            CHECK(contains(child.output, "AddressSanitizer"));
        } else {
            const std::string error =
                error_of([&] { launch(write_kernel, {.blocks = 1, .threads = 1}, x.data(), index); });
            CHECK(contains(error, "write_kernel"));
            CHECK(contains(error, "bytes past the end of a device allocation of 132 bytes"));
        }
    }
    if (!address_sanitizer) return;
    const Child reads =
        run_in_child([&] { launch(read_kernel, {.blocks = 1, .threads = 1}, x.data(), -1, y.data()); });
    CHECK(reads.died);
    const Child reads_freed = run_in_child([&] {
        cudaFree(x.data());
        launch(read_kernel, {.blocks = 1, .threads = 1}, x.data(), 0, y.data());
    });
    CHECK(reads_freed.died);
}

TEST_CASE("emulation: device memory runs out, and is used again") {
    size_t free_bytes = 0, total = 0;
    cudaMemGetInfo(&free_bytes, &total);
    REQUIRE(free_bytes == total);  // nothing is left over from other tests
    cuda_emulation::set_memory_size(1 << 20);
    void* pointers[3] = {};
    CHECK(cudaMalloc(&pointers[0], 2 << 20) == cudaErrorMemoryAllocation);
    CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
    for (int round = 0; round < 20; ++round) {  // more than fits without reuse
        for (void*& pointer : pointers) REQUIRE(cudaMalloc(&pointer, 300000) == cudaSuccess);
        void* fourth = nullptr;
        CHECK(cudaMalloc(&fourth, 300000) == cudaErrorMemoryAllocation);
        for (int i : {1, 0, 2}) CHECK(cudaFree(pointers[i]) == cudaSuccess);
    }
    CHECK(cudaFree(pointers[0]) == cudaErrorInvalidValue);
    cudaGetLastError();
    CHECK(error_of([] {
              DeviceArray<int> x(1);
              cuda_emulation::set_memory_size(1 << 30);
          }) == "set_memory_size: device memory is in use");
    cuda_emulation::set_memory_size(total);
}
