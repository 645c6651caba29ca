#include <algorithm>

#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/ops/rope/kernels.h"

namespace sieve::cpu {
namespace {

template <class T>
SIEVE_INLINE void rotate_interleaved(const T* __restrict x, T* __restrict y, const T* __restrict c,
                                     const T* __restrict s, int64_t pairs) {
    for (int64_t i = 0; i < pairs; ++i) {
        const T u = x[2 * i], v = x[2 * i + 1];
        y[2 * i] = u * c[i] - v * s[i];
        y[2 * i + 1] = u * s[i] + v * c[i];
    }
}

template <class T>
SIEVE_INLINE void rotate_halves(const T* __restrict x, T* __restrict y, const T* __restrict c,
                                const T* __restrict s, int64_t pairs) {
    for (int64_t i = 0; i < pairs; ++i) {
        const T u = x[i], v = x[pairs + i];
        y[i] = u * c[i] - v * s[i];
        y[pairs + i] = u * s[i] + v * c[i];
    }
}

// All heads of the tokens [begin, end) of the flattened (batch, token) rows.
template <class T>
SIEVE_INLINE void move_tokens(const RopeMove<T>& a, int64_t begin, int64_t end) {
    const int64_t pairs = a.rotary_dims / 2;
    for (int64_t row = begin; row < end; ++row) {
        const int64_t b = row / a.tokens, t = row % a.tokens;
        const T* c = a.cosines + t * pairs;
        const T* s = a.sines + t * pairs;
        for (int64_t h = 0; h < a.heads; ++h) {
            T* y = a.y + b * a.y_batch + t * a.y_token + h * a.y_head;
            if (!a.x) {
                std::fill(y, y + a.head_dim, T(0));
                continue;
            }
            const T* x = a.x + b * a.x_batch + t * a.x_token + h * a.x_head;
            if (a.interleaved)
                rotate_interleaved(x, y, c, s, pairs);
            else
                rotate_halves(x, y, c, s, pairs);
            std::copy(x + a.rotary_dims, x + a.head_dim, y + a.rotary_dims);
        }
    }
}

SIEVE_CLONES void move_range(const RopeMove<float>& a, int64_t b, int64_t e) {
    move_tokens(a, b, e);
}
SIEVE_CLONES void move_range(const RopeMove<double>& a, int64_t b, int64_t e) {
    move_tokens(a, b, e);
}

}  // namespace

template <class T>
void rope_move(const RopeMoves<T>& a) {
    for (int i = 0; i < a.count; ++i) {
        const RopeMove<T>& move = a.moves[i];
        parallel_for(move.batches * move.tokens, 64,
                     [&](int64_t begin, int64_t end) { move_range(move, begin, end); });
    }
}

template void rope_move(const RopeMoves<float>&);
template void rope_move(const RopeMoves<double>&);

}  // namespace sieve::cpu
