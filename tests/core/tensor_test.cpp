#include "framework/core/tensor.h"

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/cuda/runtime.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

TEST_CASE("tensor: views share elements, copies do not") {
    const Tensor x = Tensor::from(std::vector<int32_t>{0, 1, 2, 3, 4, 5}, {3, 2});
    CHECK(x.rows(1, 3).to_vector<int32_t>() == std::vector<int32_t>{2, 3, 4, 5});
    x.rows(2, 3).fill(9);
    CHECK(x.alias({6}).to_vector<int32_t>() == std::vector<int32_t>{0, 1, 2, 3, 9, 9});
    const Tensor copy = x.clone();
    copy.fill(0);
    CHECK(x.alias({6}).to_vector<int32_t>()[1] == 1);
    CHECK(!x.rows(0, 1).owns_storage_alone());
    CHECK(Tensor::zeros({2}).owns_storage_alone());
}

TEST_CASE("tensor: conversion and scalars") {
    CHECK(Tensor::full({}, 2.5).item() == 2.5);
    CHECK(Tensor::from(std::vector<double>{1.5, -2}, {2}).to(DType::int32).to_vector<int32_t>() ==
          std::vector<int32_t>{1, -2});
    CHECK(Tensor::zeros({0, 4}).numel() == 0);
    CHECK(to_string(Shape{2, 0, 3}) == "[2,0,3]");
    CHECK(Shape{2, 3}.with_last(7) == Shape{2, 7});
    CHECK(Shape{2, 3}.drop_last() == Shape{2});
}

TEST_CASE("tensor: errors") {
    check_error("tensor: 3 values for shape [2,2]", [] {
        Tensor::from(std::vector<float>{1, 2, 3}, {2, 2});
    });
    check_error("tensor: cannot view [2,3] as [5]", [] { Tensor::zeros({2, 3}).alias({5}); });
    check_error("tensor: rows [1, 4) of [3,2]", [] { Tensor::zeros({3, 2}).rows(1, 4); });
    check_error("tensor: holds float32, asked for int32", [] { Tensor::zeros({1}).data<int32_t>(); });
    check_error("tensor: item() needs one element, has shape [2]", [] { Tensor::zeros({2}).item(); });
    check_error("tensor: used before it was given a value", [] { Tensor().shape(); });
    check_error("shape: dim 2 of [3,4]", [] { Shape({3, 4}).dim(2); });
    constexpr int64_t huge = int64_t{1} << 40;
    check_error("shape: [1099511627776,4,1099511627776] has 2^63 elements or more", [] {
        Tensor::zeros({huge, 4, huge});
    });
    CHECK(Shape({huge, huge, 0}).numel() == 0);
    CHECK(Shape({huge, 1 << 22}).numel() == int64_t{1} << 62);
    for (const int64_t columns : {int64_t{1} << 22, int64_t{1} << 20, int64_t{1} << 17}) try {
            Tensor::empty({huge, columns});
            FAIL("nothing was thrown");
        } catch (const Error& e) {
            CHECK(e.kind() == ErrorKind::out_of_memory);
        }
    if (!cuda::available())
        check_error("device cuda: " + cuda::why_unavailable() + "; use the cpu",
                    [] { Tensor::zeros({1}, DType::float32, cuda::device); });
}

TEST_CASE("allocator: counts live and peak bytes, and serves a repeated size from its cache") {
    const int64_t live = memory_stats().live_bytes;
    reset_peak_memory();
    { const Tensor a = Tensor::zeros({1000}), b = Tensor::zeros({500}); }
    CHECK(memory_stats().live_bytes == live);
    Tensor::zeros({10});  // a later, lower level does not undo it
    CHECK(memory_stats().peak_bytes == live + 6000);
    const int64_t calls = memory_stats().system_calls;
    for (int i = 0; i < 10; ++i) Tensor::zeros({1000});
    CHECK(memory_stats().system_calls == calls);
    CHECK(reinterpret_cast<uintptr_t>(Tensor::empty({3}).raw()) % 64 == 0);
}

TEST_CASE("allocator: a limit and a failing allocation are errors of their kind") {
    release_cached_memory();
    set_memory_limit(memory_stats().reserved_bytes + (1 << 20));
    try {
        Tensor::empty({1 << 20});
        FAIL("nothing was thrown");
    } catch (const Error& e) {
        CHECK(e.kind() == ErrorKind::out_of_memory);
    }
    CHECK(Tensor::empty({1000}).numel() == 1000);
    set_memory_limit(0);
    fail_allocation_after(2);
    const Tensor first = Tensor::empty({10});
    CHECK_THROWS_AS(Tensor::empty({10}), Error);
    CHECK(Tensor::empty({10}).numel() == 10);
}

TEST_CASE("threads: parts cover the range once, exceptions reach the caller") {
    for (const int64_t n : {0, 1, 2, 7, 1000}) {
        std::vector<int> hits(static_cast<size_t>(n), 0);
        parallel_for(n, 1, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
        });
        parallel_tasks(n, [&](int64_t i) { ++hits[static_cast<size_t>(i)]; });
        for (const int h : hits) CHECK(h == 2);
    }
    CHECK_THROWS_AS(parallel_for(10, 1, [](int64_t, int64_t) { fail("inside"); }), Error);
    CHECK_THROWS_AS(parallel_tasks(10, [](int64_t) { fail("inside"); }), Error);
    check_error("threads: 0; want 1 to 1024", [] { set_thread_count(0); });
}

DEVICE_TEST_CASE("tensor: values travel to every device and back", device) {
    for (const int64_t n : {0, 1, 31, 1000}) {
        const Tensor host = random_normal({n}, 1);
        const Tensor there = host.to(device);
        CHECK(there.device() == device);
        CHECK(bit_identical(there, host));
        CHECK(bit_identical(there.clone(), host));
        CHECK(bit_identical(there.to(DType::float32), host.to(DType::float32)));
        CHECK(bit_identical(Tensor::zeros({n}, DType::int32, device), Tensor::zeros({n}, DType::int32)));
        CHECK(bit_identical(Tensor::full({n}, 2.5, DType::float32, device), Tensor::full({n}, 2.5)));
        CHECK(bit_identical(there.rows(n / 2, n), host.rows(n / 2, n)));
        const Tensor sum = there.clone(), host_sum = host.clone();
        accumulate(sum, there);
        accumulate(host_sum, host);
        CHECK(bit_identical(sum, host_sum));
    }
    CHECK(Tensor::full({}, 3, DType::int64, device).item() == 3);
}

DEVICE_TEST_CASE("allocator: pools keep their blocks, uses are named when memory runs out", device) {
    const int64_t live = memory_stats(device).live_bytes;
    {
        const MemoryPool pool(device);
        const void* inside = nullptr;
        {
            const MemoryPool::Scope scope(pool);
            inside = Tensor::empty({12345}, DType::float32, device).raw();
            CHECK(Tensor::empty({12345}, DType::float32, device).raw() == inside);
        }
        CHECK(Tensor::empty({12345}, DType::float32, device).raw() != inside);
    }
    CHECK(memory_stats(device).live_bytes == live);
    const MemoryScope scope({"the test's tensors", {SizeKind::layers}});
    const Tensor held = Tensor::empty({3 << 20}, DType::uint8, device);
    set_memory_limit(memory_stats(device).reserved_bytes + 1, device);
    try {
        Tensor::empty({1 << 29}, DType::uint8, device);
        FAIL("nothing was thrown");
    } catch (const Error& e) {
        CHECK(e.kind() == ErrorKind::out_of_memory);
        const std::string message = e.what();
        INFO(message);
        CHECK(message.find("cannot allocate 524288 KiB for the test's tensors on " + to_string(device)) !=
              std::string::npos);
        CHECK(message.find("the test's tensors 3 MiB") != std::string::npos);
        CHECK(message.find("; lower " + one_of(e.lower())) != std::string::npos);
        CHECK(!e.lower().empty());
    }
    set_memory_limit(0, device);
}

TEST_CASE("tensor: sizes that no number holds are refused, those that no machine holds are out of memory") {
    constexpr int64_t huge = int64_t{1} << 40;
    check_error("shape: [1099511627776,1099511627776] has 2^63 elements or more", [] {
        Tensor::empty({huge, huge});
    });
    CHECK(Tensor::empty({huge, huge, 0}).numel() == 0);
    const int64_t live = memory_stats().live_bytes;
    for (const int64_t size : {int64_t{1} << 62, huge * (1 << 18)}) try {
            Tensor::empty({size});
            FAIL("nothing was thrown");
        } catch (const Error& e) {
            CHECK(e.kind() == ErrorKind::out_of_memory);
        }
    CHECK(memory_stats().live_bytes == live);
}
