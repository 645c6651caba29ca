#include <algorithm>
#include <cstring>

#include "framework/core/threads.h"
#include "framework/ops/embedding/kernels.h"

namespace sieve::cpu {

template <class T>
void embedding_forward(const EmbeddingForward<T>& a) {
    parallel_for(a.count, 256, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
            std::memcpy(a.y + i * a.width, a.weight + a.tokens[i] * a.width,
                        static_cast<size_t>(a.width) * sizeof(T));
    });
}

// Each thread owns a range of the vocabulary and walks all tokens in order: no two threads write one row, and
// the order of the additions does not depend on how many there are.
template <class T>
void embedding_backward(const EmbeddingBackward<T>& a) {
    parallel_for(a.vocab, 64, [&](int64_t begin, int64_t end) {
        std::fill(a.dweight + begin * a.width, a.dweight + end * a.width, T(0));
        for (int64_t i = 0; i < a.count; ++i) {
            if (a.tokens[i] < begin || a.tokens[i] >= end) continue;
            T* __restrict row = a.dweight + a.tokens[i] * a.width;
            const T* __restrict dy = a.dy + i * a.width;
            for (int64_t j = 0; j < a.width; ++j) row[j] += dy[j];
        }
    });
}

template void embedding_forward(const EmbeddingForward<float>&);
template void embedding_forward(const EmbeddingForward<double>&);
template void embedding_backward(const EmbeddingBackward<float>&);
template void embedding_backward(const EmbeddingBackward<double>&);

}  // namespace sieve::cpu
