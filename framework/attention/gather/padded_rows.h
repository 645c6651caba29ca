// Private to this room.
// Rows for vector kernels.
#pragma once

#include <algorithm>

#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/core/vectors.h"

namespace sieve::cpu {

// Rows of `columns` elements, padded with zeros to `stride`: the very rows where they already are as long.
template <class T>
class PaddedRows {
  public:
    PaddedRows(const T* from, int64_t rows, int64_t columns, int64_t stride) : data_(from), stride_(stride) {
        if (stride == columns) return;
        copy_ = Tensor::empty(Shape{rows, stride}, dtype_of<T>);
        T* to = copy_.data<T>();
        parallel_for(rows, (1 << 14) / stride + 1, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
                std::copy_n(from + i * columns, columns, to + i * stride);
                std::fill(to + i * stride + columns, to + (i + 1) * stride, T(0));
            }
        });
        data_ = to;
    }
    const T* row(int64_t i) const { return data_ + i * stride_; }
    int64_t stride() const { return stride_; }

  private:
    const T* data_;
    int64_t stride_;
    Tensor copy_;
};

// The rows of q, k and v that a gathering kernel reads, in whole vectors. Args: AttentionForward or
// AttentionBackward.
template <class T>
struct AttentionRows {
    PaddedRows<T> q, k, v;

    template <class Args>
    explicit AttentionRows(const Args& a)
        : q(a.q, a.size.batch * a.size.heads * a.size.queries(), a.size.dim,
            round_up(a.size.dim, widest<T>())),
          k(a.k, a.size.batch * a.size.kv_heads * a.size.key_rows, a.size.dim, q.stride()),
          v(a.v, a.size.batch * a.size.kv_heads * a.size.key_rows, a.size.value_dim,
            round_up(a.size.value_dim, widest<T>())) {}
};

}  // namespace sieve::cpu
