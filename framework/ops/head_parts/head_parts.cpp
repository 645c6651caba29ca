#include "framework/ops/head_parts/head_parts.h"

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/head_parts/kernels.h"

namespace sieve {
namespace {

constexpr const char* split = "split_last";
constexpr const char* join = "join_heads";
constexpr const char* merge = "merge_heads";

// A part of a tensor: rows that start `offset` elements after their strides say.
struct Part {
    Tensor tensor;  // undefined: zeros
    int64_t offset;
    RowStrides strides;
};

struct Sizes {
    int64_t batches, tokens, heads, columns;
};

void copy(const char* op, const Part& from, const Part& to, const Sizes& s) {
    dispatch_float(op, to.tensor.dtype(), [&]<class T>() {
        launch(op, to.tensor.device(), cpu::copy_rows<T>, cuda::copy_rows<T>,
               CopyRows<T>{.x = from.tensor.defined() ? from.tensor.data<T>() + from.offset : nullptr,
                           .from = from.strides,
                           .y = to.tensor.data<T>() + to.offset,
                           .to = to.strides,
                           .batches = s.batches,
                           .tokens = s.tokens,
                           .heads = s.heads,
                           .columns = s.columns});
    });
}

// Rows one after the other, the whole tensor as one batch of one head.
Part part_of_rows(const Tensor& x, int64_t offset, int64_t width) {
    return {x, offset, {0, width, 0}};
}

Part token_major(const Tensor& x, int64_t T, int64_t H, int64_t width) {
    return {x, 0, {T * H * width, H * width, width}};
}

Part head_major(const Tensor& x, int64_t offset, int64_t T, int64_t H, int64_t width) {
    return {x, offset, {H * T * width, width, T * width}};
}

void check_join(const Tensor& a, const Tensor& c) {
    check_rank(join, "a", a, 4);
    check_rank(join, "c", c, 4);
    check_shape(join, "c", c, Shape{a.dim(0), a.dim(1), a.dim(2), c.dim(3)},
                "to fit a " + to_string(a.shape()));
    check_operand(join, "c", c, {"a", a});
}

}  // namespace

SplitRows split_last(const Tensor& x, int64_t n) {
    if (x.rank() == 0) fail(std::string(split) + ": x is a scalar, want at least 1 dim");
    const int64_t width = x.dim(-1), rows = x.shape().drop_last().numel();
    if (n < 0 || n > width)
        fail(std::string(split) + ": n is " + std::to_string(n) + ", want 0 to " + std::to_string(width) +
             ", the last dim of x " + to_string(x.shape()));
    const Tensor first = Tensor::empty(x.shape().with_last(n), x.dtype(), x.device());
    const Tensor rest = Tensor::empty(x.shape().with_last(width - n), x.dtype(), x.device());
    copy(split, part_of_rows(x, 0, width), part_of_rows(first, 0, n), {1, rows, 1, n});
    copy(split, part_of_rows(x, n, width), part_of_rows(rest, 0, width - n), {1, rows, 1, width - n});
    record(split, {x}, {first, rest},
           [shape = x.shape(), dtype = x.dtype(), device = x.device(), width, rows,
            n](const std::vector<Tensor>& d) -> std::vector<Tensor> {
               const Tensor dx = Tensor::empty(shape, dtype, device);
               copy(split, part_of_rows(d[0], 0, n), part_of_rows(dx, 0, width), {1, rows, 1, n});
               copy(split, part_of_rows(d[1], 0, width - n), part_of_rows(dx, n, width),
                    {1, rows, 1, width - n});
               return {dx};
           });
    return {first, rest};
}

Tensor join_heads(const Tensor& a, const Tensor& c) {
    check_join(a, c);
    const int64_t B = a.dim(0), T = a.dim(1), H = a.dim(2), m = a.dim(3), n = c.dim(3);
    const Tensor y = Tensor::empty({B, H, T, m + n}, a.dtype(), a.device());
    copy(join, token_major(a, T, H, m), head_major(y, 0, T, H, m + n), {B, T, H, m});
    copy(join, token_major(c, T, H, n), head_major(y, m, T, H, m + n), {B, T, H, n});
    record(join, {a, c}, {y}, [B, T, H, m, n](const std::vector<Tensor>& dy) -> std::vector<Tensor> {
        const Tensor da = Tensor::empty({B, T, H, m}, dy[0].dtype(), dy[0].device());
        const Tensor dc = Tensor::empty({B, T, H, n}, dy[0].dtype(), dy[0].device());
        copy(join, head_major(dy[0], 0, T, H, m + n), token_major(da, T, H, m), {B, T, H, m});
        copy(join, head_major(dy[0], m, T, H, m + n), token_major(dc, T, H, n), {B, T, H, n});
        return {da, dc};
    });
    return y;
}

Tensor merge_heads(const Tensor& x) {
    check_rank(merge, "x", x, 4);
    const int64_t B = x.dim(0), H = x.dim(1), T = x.dim(2), n = x.dim(3);
    const Tensor y = Tensor::empty({B, T, H * n}, x.dtype(), x.device());
    copy(merge, head_major(x, 0, T, H, n), token_major(y, T, H, n), {B, T, H, n});
    record(merge, {x}, {y}, [shape = x.shape()](const std::vector<Tensor>& dy) -> std::vector<Tensor> {
        const Tensor dx = Tensor::empty(shape, dy[0].dtype(), dy[0].device());
        const int64_t heads = shape.dim(1), length = shape.dim(2), width = shape.dim(3);
        copy(merge, token_major(dy[0], length, heads, width), head_major(dx, 0, length, heads, width),
             {shape.dim(0), length, heads, width});
        return {dx};
    });
    return y;
}

}  // namespace sieve
