// Threads, barriers, warp collectives, shared memory, and that broken kernels are caught.
#include <cmath>
#include <numeric>
#include <set>

#include "framework/core/cuda/launch.cuh"
#include "framework/core/cuda/mma.cuh"
#include "tests/cuda_emulation/tests/sample.h"
#include "tests/cuda_emulation/tests/testing.h"

using namespace sieve;
using namespace sieve::emulation_testing;

namespace {

constexpr uint64_t seeds = 8;
constexpr unsigned whole_warp = 0xffffffffu;

std::vector<int> counted(int count) {
    std::vector<int> values(count);
    std::iota(values.begin(), values.end(), 0);
    return values;
}

__global__ void index_kernel(int* y) {
    const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    y[block * blockDim.x * blockDim.y * blockDim.z + thread] += block * 1000 + thread + 1;
}

// y[i] = the thread that came i-th.
__global__ void order_kernel(int* y, int* arrived) {
    y[atomicAdd(arrived, 1)] = blockIdx.x * blockDim.x + threadIdx.x;
}

__global__ void early_exit_kernel(int* y) {
    if (threadIdx.x >= 40) return;
    __syncthreads();
    atomicAdd(y, static_cast<int>(__popc(__ballot_sync(whole_warp, 1))));
    if (threadIdx.x >= 8) return;
    atomicAdd(y, 1000 * __syncthreads_count(1));
}

// Broken on purpose.

__global__ void two_barriers_kernel() {
    if (threadIdx.x < 40)
        __syncthreads();
    else
        __syncthreads();
}

__global__ void partial_arrival_kernel() {
    if (threadIdx.x < 3) __syncwarp();
    __syncthreads();
}

__global__ void foreign_mask_kernel() {
    __shfl_sync(0x7fffffffu, 1.0f, 0);
}

__global__ void different_collectives_kernel(int* y) {
    if (threadIdx.x % 2)
        y[threadIdx.x] = __any_sync(whole_warp, 1);
    else
        y[threadIdx.x] = __all_sync(whole_warp, 1);
}

__global__ void different_masks_kernel(int* y) {
    y[threadIdx.x] = __shfl_sync(threadIdx.x < 16 ? 0x0000ffffu : whole_warp, 1, 0);
}

__global__ void outside_mask_kernel(int* y) {
    if (threadIdx.x < 16) y[threadIdx.x] = __shfl_down_sync(0xffffu, 1, 8);
}

__global__ void ended_lane_kernel(int* y) {
    if (threadIdx.x == 9) return;
    y[threadIdx.x] = __shfl_xor_sync(whole_warp, 1, 1);
}

__global__ void odd_width_kernel(int* y) {
    y[threadIdx.x] = __shfl_sync(whole_warp, 1, 0, 12);
}

__global__ void trap_kernel() {
    if (threadIdx.x == 5 && threadIdx.y == 2) __trap();
    __syncthreads();
}

__global__ void half_warp_mma_kernel(float* y) {
    float d[4] = {};
    const uint32_t a[4] = {}, b[2] = {};
    if (threadIdx.x < 16) return;
    cuda::mma_m16n8k16_bf16(d, a, b);
    y[threadIdx.x] = d[0];
}

__global__ void active_mask_kernel(int* y) {
    y[threadIdx.x] = __shfl_sync(__activemask(), 1, 0);
}

// A thread writes beside its memory: `shift` elements past the end of the dynamic, fixed or global array.
__global__ void write_dynamic_kernel(int count, int shift) {
    cuda::dynamic_shared<int>()[count - 1 + shift] = 1;
}
__global__ void write_fixed_kernel(int* y, int shift) {
    __shared__ int values[10];
    int* last = values + 9;
    last[shift] = 1;
    __syncthreads();
    *y = values[threadIdx.x];
}

// One of two groups of threads hands over to the other without a barrier, within a block of many warps.
template <bool with_barrier>
__global__ void hand_over_kernel(const int* x, int* y) {
    __shared__ int values[128];
    const int i = threadIdx.x;
    values[i] = x[i];
    if (with_barrier) __syncthreads();
    y[i] = values[(i + 64) % 128];
}

__global__ void null_kernel() {}

}  // namespace

TEST_CASE("emulation: every thread of every block runs once, with its own indices") {
    for (uint64_t seed = 0; seed < seeds; ++seed) {
        const Seed order(seed);
        DeviceArray<int> y(std::vector<int>(24 * 30, 0));
        launch(index_kernel, {.blocks = dim3(4, 3, 2), .threads = dim3(5, 3, 2)}, y.data());
        const std::vector<int> values = y.host();
        bool right = true;
        for (int i = 0; i < 24 * 30; ++i) right &= values[i] == i / 30 * 1000 + i % 30 + 1;
        CHECK(right);
    }
}

TEST_CASE("emulation: a seed shuffles blocks, warps and lanes; 0 is their order") {
    std::set<int> first_blocks, first_warps, first_lanes;
    for (uint64_t seed = 0; seed < seeds; ++seed) {
        const Seed shuffled(seed);
        DeviceArray<int> y(4 * 96), arrived(std::vector<int>{0});
        launch(order_kernel, {.blocks = 4, .threads = 96}, y.data(), arrived.data());
        const std::vector<int> order = y.host();
        if (seed == 0) CHECK(order == counted(4 * 96));
        first_blocks.insert(order[0] / 96);
        first_warps.insert(order[0] % 96 / 32);
        first_lanes.insert(order[0] % 32);
        DeviceArray<int> again(4 * 96);
        cuda_emulation::set_seed(seed);  // and the same seed the same order
        cudaMemset(arrived.data(), 0, sizeof(int));
        launch(order_kernel, {.blocks = 4, .threads = 96}, again.data(), arrived.data());
        CHECK(again.host() == order);
    }
    CHECK(first_blocks.size() > 2);
    CHECK(first_warps.size() == 3);
    CHECK(first_lanes.size() > 4);
}

TEST_CASE("emulation: warp collectives") {
    for (uint64_t seed = 0; seed < seeds; ++seed) {
        const Seed order(seed);
        DeviceArray<sample::WarpResults> y(1);
        launch(sample::warp_kernel, {.blocks = 1, .threads = 32}, y.data());
        const sample::WarpResults r = y.host()[0];
        unsigned thirds = 0;
        for (int lane = 0; lane < 32; lane += 3) thirds |= 1u << lane;
        for (int lane = 0; lane < 32; ++lane) {
            CAPTURE(lane);
            CHECK(r.indexed[lane] == 50);
            CHECK(r.rotated[lane] == (lane + 1) % 32 * 10);
            CHECK(r.up[lane] == (lane < 3 ? lane : lane - 3) * 10);
            CHECK(r.up_in_eights[lane] == (lane % 8 < 3 ? lane : lane - 3) * 10);
            CHECK(r.down[lane] == (lane > 27 ? lane : lane + 4) * 10);
            CHECK(r.exchanged[lane] == (lane ^ 17) * 10);
            // A lane of an earlier segment can be read, one of a later segment cannot.
            CHECK(r.exchanged_in_eights[lane] == ((lane ^ 9) > (lane | 7) ? lane : lane ^ 9) * 10);
            CHECK(r.wide[lane] == (lane ^ 1) + 0.125);
            CHECK(r.wide_integer[lane] == ((31LL - lane) << 40) + 31 - lane);
            CHECK(r.ballot[lane] == thirds);
            if (lane % 2) CHECK(r.odd_ballot[lane] == 0xaaaaaa00u);
            CHECK(r.same_quarter[lane] == 0xffu << lane / 8 * 8);
            CHECK(r.any[lane] == 1);
            CHECK(r.none[lane] == 0);
            CHECK(r.all[lane] == 1);
            CHECK(r.not_all[lane] == 0);
            CHECK(r.sum[lane] == 31 * 16 - 32 * 16);
            CHECK(r.smallest[lane] == -26);
            CHECK(r.largest[lane] == -69);
            CHECK(r.together[lane] == 0xf0u);
            CHECK(r.either[lane] == 31);
        }
    }
}

TEST_CASE("emulation: barriers count votes") {
    std::vector<int> x(3 * 70, 0);
    for (int i = 70; i < 140; ++i) x[i] = 5;
    x[190] = -1;
    DeviceArray<int> input(x), votes(12);
    launch(sample::vote_kernel, {.blocks = 3, .threads = 70}, input.data(), votes.data());
    CHECK(votes.host() == std::vector<int>{0, 0, 0, 0, 1, 1, 70, 0, 1, 0, 1, 0});
}

TEST_CASE("emulation: ended threads and lanes that do not exist are not waited for") {
    DeviceArray<int> y(std::vector<int>{0});
    launch(early_exit_kernel, {.blocks = 1, .threads = 70}, y.data());
    CHECK(y.host()[0] == 32 * 32 + 8 * 8 + 8 * 8000);
}

TEST_CASE("emulation: shared tiles, two-dimensional blocks") {
    const int m = 37, n = 70;
    std::vector<float> x(m * n);
    std::iota(x.begin(), x.end(), 0.0f);
    DeviceArray<float> input(x), output(m * n);
    launch(sample::transpose_kernel, {.blocks = dim3(3, 2), .threads = dim3(32, 8)}, input.data(),
           output.data(), m, n);
    const std::vector<float> y = output.host();
    bool right = true;
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j) right &= y[j * m + i] == x[i * n + j];
    CHECK(right);
}

TEST_CASE("emulation: a missing barrier shows for some seed, a present one never fails") {
    std::vector<double> x(2 * 256);
    std::iota(x.begin(), x.end(), 1.0);
    const std::vector<double> want{256 * 257 / 2.0, 256 * 257 / 2.0 + 256 * 256};
    const std::vector<int> numbers = counted(128);
    std::vector<int> rotated(128), reversed(32);
    for (int i = 0; i < 128; ++i) rotated[i] = (i + 64) % 128;
    for (int i = 0; i < 32; ++i) reversed[i] = 31 - i;
    int wrong_sums = 0, wrong_rotations = 0, wrong_reversals = 0;
    for (uint64_t seed = 0; seed < seeds; ++seed) {
        const Seed order(seed);
        DeviceArray<double> input(x), sums(2);
        launch(sample::sum_kernel<double, true>, {.blocks = 2, .threads = 256}, input.data(), sums.data());
        CHECK(sums.host() == want);
        launch(sample::sum_kernel<double, false>, {.blocks = 2, .threads = 256}, input.data(), sums.data());
        wrong_sums += sums.host() != want;

        DeviceArray<int> integers(numbers), out(128);
        launch(hand_over_kernel<true>, {.blocks = 1, .threads = 128}, integers.data(), out.data());
        CHECK(out.host() == rotated);
        launch(hand_over_kernel<false>, {.blocks = 1, .threads = 128}, integers.data(), out.data());
        wrong_rotations += out.host() != rotated;

        DeviceArray<int> few(32);
        launch(sample::reverse_kernel<true>, {.blocks = 1, .threads = 32}, integers.data(), few.data());
        CHECK(few.host() == reversed);
        launch(sample::reverse_kernel<false>, {.blocks = 1, .threads = 32}, integers.data(), few.data());
        wrong_reversals += few.host() != reversed;
    }
    CHECK(wrong_sums > 0);
    CHECK(wrong_rotations > 0);
    CHECK(wrong_reversals > 0);
}

TEST_CASE("emulation: barriers and collectives that cannot complete are errors with names") {
    DeviceArray<int> y(64);
    std::string error = error_of([] { launch(two_barriers_kernel, {.blocks = 2, .threads = 64}); });
    CHECK(contains(error, "two_barriers_kernel, block (0,0,0): barrier divergence"));
    CHECK(contains(error, "threads 0-39 wait in __syncthreads at "));
    CHECK(contains(error, "threads 40-63 wait in __syncthreads at "));

    error = error_of([] { launch(partial_arrival_kernel, {.blocks = 1, .threads = 34}); });
    CHECK(contains(error, "a warp collective waits for lanes that never arrive"));
    CHECK(contains(error, "threads 0-2 wait in __syncwarp with mask 0xffffffff at "));
    CHECK(contains(error, "threads 3-33 wait in __syncthreads at "));

    error = error_of([] { launch(foreign_mask_kernel, {.blocks = 1, .threads = 32}); });
    CHECK(contains(error, "thread (31,0,0): __shfl_sync: mask 0x7fffffff lacks the calling lane 31 at "));

    error = error_of([&] { launch(different_collectives_kernel, {.blocks = 1, .threads = 32}, y.data()); });
    CHECK(contains(error, "waits for lanes that never arrive"));
    CHECK(contains(error, " wait in __any_sync with mask 0xffffffff"));
    CHECK(contains(error, " wait in __all_sync with mask 0xffffffff"));

    error = error_of([&] { launch(different_masks_kernel, {.blocks = 1, .threads = 32}, y.data()); });
    CHECK(contains(error, "lane 16 reads lane 0, which takes no part"));  // it ended after its own shuffle

    error = error_of([&] { launch(outside_mask_kernel, {.blocks = 1, .threads = 32}, y.data()); });
    CHECK(contains(error, "warp 0, __shfl_down_sync with mask 0x0000ffff at "));
    CHECK(contains(error, "lane 8 reads lane 16, which takes no part"));

    error = error_of([&] { launch(ended_lane_kernel, {.blocks = 1, .threads = 32}, y.data()); });
    CHECK(contains(error, "lane 8 reads lane 9, which takes no part"));
    error = error_of([&] { launch(ended_lane_kernel, {.blocks = 1, .threads = 25}, y.data()); });
    CHECK(contains(error, "reads lane"));

    error = error_of([&] { launch(odd_width_kernel, {.blocks = 1, .threads = 32}, y.data()); });
    CHECK(contains(error, "width 12, want a power of two up to 32"));

    error = error_of([&] { launch(active_mask_kernel, {.blocks = 1, .threads = 32}, y.data()); });
    CHECK(contains(error, "takes no part"));

    DeviceArray<float> z(32);
    error = error_of([&] { launch(half_warp_mma_kernel, {.blocks = 1, .threads = 32}, z.data()); });
    CHECK(contains(error, "needs all 32 lanes of the warp"));
}

TEST_CASE("emulation: __trap names the thread, and the engine goes on after an error") {
    const std::string error =
        error_of([] { launch(trap_kernel, {.blocks = dim3(1, 3), .threads = dim3(8, 4)}); });
    CHECK(contains(error, "trap_kernel, block (0,0,0): thread (5,2,0): __trap() at "));
    DeviceArray<int> y(std::vector<int>{0});
    launch(early_exit_kernel, {.blocks = 1, .threads = 70}, y.data());
    CHECK(y.host()[0] == 32 * 32 + 8 * 8 + 8 * 8000);
}

TEST_CASE("emulation: limits of a launch") {
    const auto error_for = [](const Grid& grid) { return error_of([&] { launch(null_kernel, grid); }); };
    CHECK(error_for({.blocks = 1, .threads = 1024}) == "");
    CHECK(contains(error_for({.blocks = 1, .threads = 1025}), "block (1025,1,1), want 1 to 1024 threads"));
    CHECK(contains(error_for({.blocks = 1, .threads = dim3(1, 1, 65)}), "block (1,1,65)"));
    CHECK(contains(error_for({.blocks = 1, .threads = 0}), "block (0,1,1)"));
    CHECK(contains(error_for({.blocks = dim3(1, 0), .threads = 1}), "grid (1,0,1)"));
    CHECK(contains(error_for({.blocks = dim3(1, 65536), .threads = 1}), "grid (1,65536,1)"));
    CHECK(error_for({.blocks = 1, .threads = 1, .shared_bytes = 48 << 10}) == "");
    CHECK(contains(error_for({.blocks = 1, .threads = 1, .shared_bytes = 49153}), "allowed are 49152"));
    REQUIRE(cudaFuncSetAttribute(null_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 << 10) ==
            cudaSuccess);
    CHECK(error_for({.blocks = 1, .threads = 1, .shared_bytes = 227 << 10}) == "");
    CHECK(contains(error_for({.blocks = 1, .threads = 1, .shared_bytes = (227 << 10) + 1}),
                   "allowed are 232448"));
    CHECK(cudaFuncSetAttribute(null_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (227 << 10) + 1) ==
          cudaErrorInvalidValue);
    CHECK(cudaGetLastError() == cudaErrorInvalidValue);
    // The kernel's own arrays count: 256 doubles here.
    const std::string error = error_of([] {
        launch(sample::sum_kernel<double, true>,
               {.blocks = 1, .threads = 32, .shared_bytes = (48 << 10) - 2047}, nullptr, nullptr);
    });
    CHECK(contains(
        error,
        "47105 bytes of dynamic shared memory beside 2048 of __shared__ variables, allowed are 47104"));
}

TEST_CASE("emulation: each block finds nonsense in its shared memory") {
    for (bool write : {false, true}) {
        DeviceArray<double> y(2 * 5);
        launch(sample::stale_kernel<double>, {.blocks = 5, .threads = 1, .shared_bytes = 48}, y.data(),
               write);
        for (double value : y.host()) CHECK(std::isnan(value));
        DeviceArray<int> z(2 * 5);
        launch(sample::stale_kernel<int>, {.blocks = 5, .threads = 1, .shared_bytes = 24}, z.data(), write);
        CHECK(z.host() == std::vector<int>(10, -1));
    }
    CHECK(reinterpret_cast<uintptr_t>(cuda_emulation::dynamic_shared_memory()) % 128 == 0);
}

TEST_CASE("emulation: a write beside shared memory is caught") {
    for (int count : {7, 64}) {
        const Grid grid{.blocks = 1, .threads = 1, .shared_bytes = count * sizeof(int)};
        CHECK(error_of([&] { launch(write_dynamic_kernel, grid, count, 0); }) == "");
        for (int shift : {1, 60}) {
            CAPTURE(shift);
            if (address_sanitizer) {
                const Child child = run_in_child([&] { launch(write_dynamic_kernel, grid, count, shift); });
                CHECK(child.died);
                CHECK(contains(child.output, "AddressSanitizer"));
            } else {
                const std::string error = error_of([&] { launch(write_dynamic_kernel, grid, count, shift); });
                CHECK(
                    contains(error, "writes outside its " + std::to_string(count * sizeof(int)) + " bytes"));
            }
        }
    }
    if (!address_sanitizer) return;
    DeviceArray<int> y(1);
    const Child child =
        run_in_child([&] { launch(write_fixed_kernel, {.blocks = 1, .threads = 4}, y.data(), 1); });
    CHECK(child.died);
    CHECK(contains(child.output, "execution_test.cpp"));
}

TEST_CASE("emulation: atomics") {
    DeviceArray<sample::Totals> totals(std::vector<sample::Totals>{{.count = 0,
                                                                    .largest = -5,
                                                                    .smallest = 5,
                                                                    .swaps = 0,
                                                                    .bits = 0,
                                                                    .common = 0xffffu,
                                                                    .wide = 0,
                                                                    .sum = 0,
                                                                    .double_sum = 0,
                                                                    .last = 0}});
    launch(sample::atomic_kernel, {.blocks = 3, .threads = 33}, totals.data());
    const sample::Totals t = totals.host()[0];
    CHECK(t.count == 99);
    CHECK(t.largest == 98);
    CHECK(t.smallest == -98);
    CHECK(t.swaps == 198);
    CHECK(t.bits == 0xffffffffu);
    CHECK(t.common == 0xff00u);
    CHECK(t.wide == 99ull << 33);
    CHECK(t.sum == 49.5f);
    CHECK(t.double_sum == 24.75);
    CHECK(t.last == 7);
}
