#include <algorithm>
#include <cstring>
#include <vector>

#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/ops/moe_dispatch/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t grain_elements = 1 << 14;

template <class T>
SIEVE_INLINE void backward_rows(const MoeDispatchBackward<T>& a, int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
        T* __restrict dx = a.dx + n * a.width;
        const int32_t* position = a.position + n * a.top_k;
        const T* __restrict first = a.dy + position[0] * a.width;
        if (a.top_k == 1) {
            std::memcpy(dx, first, static_cast<size_t>(a.width) * sizeof(T));
            continue;
        }
        const T* __restrict second = a.dy + position[1] * a.width;
        for (int64_t i = 0; i < a.width; ++i) dx[i] = first[i] + second[i];
        for (int64_t j = 2; j < a.top_k; ++j) {
            const T* __restrict dy = a.dy + position[j] * a.width;
            for (int64_t i = 0; i < a.width; ++i) dx[i] += dy[i];
        }
    }
}

SIEVE_CLONES void backward(const MoeDispatchBackward<float>& a, int64_t begin, int64_t end) {
    backward_rows(a, begin, end);
}
SIEVE_CLONES void backward(const MoeDispatchBackward<double>& a, int64_t begin, int64_t end) {
    backward_rows(a, begin, end);
}

}  // namespace

// A stable counting sort.
void dispatch_sort(const DispatchSort& a) {
    std::fill(a.offsets, a.offsets + a.num_experts + 1, 0);
    for (int64_t s = 0; s < a.slots; ++s) ++a.offsets[a.experts[s] + 1];
    for (int64_t e = 0; e < a.num_experts; ++e) a.offsets[e + 1] += a.offsets[e];
    std::vector<int64_t> next(a.offsets, a.offsets + a.num_experts);
    for (int64_t s = 0; s < a.slots; ++s) {
        const int64_t p = next[static_cast<size_t>(a.experts[s])]++;
        a.order[p] = static_cast<int32_t>(s);
        a.position[s] = static_cast<int32_t>(p);
    }
}

// By token and not by sorted position: x is read once, however many experts a token has.
template <class T>
void moe_dispatch_forward(const MoeDispatchForward<T>& a) {
    if (a.width == 0) return;
    const size_t row_bytes = static_cast<size_t>(a.width) * sizeof(T);
    parallel_for(a.tokens, grain_elements / (a.width * a.top_k) + 1, [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n)
            for (int64_t j = 0; j < a.top_k; ++j)
                std::memcpy(a.y + a.position[n * a.top_k + j] * a.width, a.x + n * a.width, row_bytes);
    });
}

template <class T>
void moe_dispatch_backward(const MoeDispatchBackward<T>& a) {
    if (a.width == 0) return;
    parallel_for(a.tokens, grain_elements / (a.width * a.top_k) + 1,
                 [&](int64_t begin, int64_t end) { backward(a, begin, end); });
}

template void moe_dispatch_forward(const MoeDispatchForward<float>&);
template void moe_dispatch_forward(const MoeDispatchForward<double>&);
template void moe_dispatch_backward(const MoeDispatchBackward<float>&);
template void moe_dispatch_backward(const MoeDispatchBackward<double>&);

}  // namespace sieve::cpu
