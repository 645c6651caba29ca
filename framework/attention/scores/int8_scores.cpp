#include "framework/attention/scores/int8_scores.h"

#include <algorithm>

#include "framework/attention/scores/int8_dots.h"
#include "framework/core/simd.h"
#include "framework/core/threads.h"

namespace sieve::cpu {
namespace {

constexpr int64_t keys = int8_panel_keys;

int64_t panels_of(int64_t length) {
    return (length + keys - 1) / keys;
}
int64_t groups_of(int64_t width) {
    return (width + 3) / 4;
}

// k [count, width] -> panels of int8_dots.h
void pack_keys(const uint8_t* k, int64_t count, int64_t width, int8_t* packed) {
    const int64_t groups = groups_of(width);
    std::fill(packed, packed + panels_of(count) * groups * keys * 4, int8_t(0));
    for (int64_t s = 0; s < count; ++s) {
        int8_t* panel = packed + s / keys * groups * keys * 4 + s % keys * 4;
        for (int64_t i = 0; i < width; ++i)
            panel[i / 4 * keys * 4 + i % 4] = static_cast<int8_t>(k[s * width + i]);
    }
}

// [rows, width] -> [rows, 4 groups]
void pad_queries(const uint8_t* q, int64_t rows, int64_t width, int8_t* padded) {
    const int64_t wide = 4 * groups_of(width);
    std::fill(padded, padded + rows * wide, int8_t(0));
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < width; ++i) padded[r * wide + i] = static_cast<int8_t>(q[r * width + i]);
}

// Of one batch row; queries [begin, end).
struct Int8Block {
    const float* w;           // [T,HI]
    const float* key_scales;  // [T] and zeros up to whole panels
    int64_t heads, begin, end;
    float scale;
};

typedef float Floats __attribute__((vector_size(keys * sizeof(float)), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(keys * sizeof(int32_t)), aligned(4), may_alias));

// Scores of panel c from its products x [(t,j)][keys], into scores [queries, stride].
SIEVE_CLONES void sum_panel(const Int8Block& a, const int32_t* x, int64_t c, float* scores, int64_t stride) {
    const Floats key_scale = *reinterpret_cast<const Floats*>(a.key_scales + c * keys);
    for (int64_t t = a.begin; t < a.end; ++t) {
        Floats sum = {};
        for (int64_t j = 0; j < a.heads; ++j, x += keys) {
            const Ints product = *reinterpret_cast<const Ints*>(x);
            const Ints positive = product < 0 ? Ints{} : product;
            sum += (a.scale * a.w[t * a.heads + j]) * __builtin_convertvector(positive, Floats);
        }
        *reinterpret_cast<Floats*>(scores + (t - a.begin) * stride + c * keys) = sum * key_scale;
    }
}

}  // namespace

Int8Keys pack_int8_keys(const Int8Operands& a) {
    const IndexerSizes& n = a.sizes;
    const int64_t panels = panels_of(n.length), bytes = panels * groups_of(n.width) * keys * 4;
    const Int8Keys all{Tensor::empty({n.batch, bytes}, DType::uint8),
                       Tensor::zeros({n.batch, panels * keys}, DType::float32)};
    parallel_for(n.batch, 1, [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) {
            pack_keys(a.k + b * n.length * n.width, n.length, n.width,
                      reinterpret_cast<int8_t*>(all.panels.data<uint8_t>() + b * bytes));
            std::copy(a.key_scales + b * n.length, a.key_scales + (b + 1) * n.length,
                      all.scales.data<float>() + b * panels * keys);
        }
    });
    return all;
}

int64_t int8_score_stride(int64_t end) {
    return (panels_of(end) + 1) * keys;
}

void int8_scores(const Int8Operands& a, const Int8Keys& all, int64_t b, int64_t begin, int64_t end,
                 const Tensor& scores) {
    const IndexerSizes& n = a.sizes;
    const Int8Block block{.w = a.w + b * n.length * n.heads,
                          .key_scales = all.scales.data<float>() + b * all.scales.dim(1),
                          .heads = n.heads,
                          .begin = begin,
                          .end = end,
                          .scale = a.scale};
    const int64_t rows = (block.end - block.begin) * n.heads, groups = groups_of(n.width);
    const Tensor q = Tensor::empty({rows, 4 * groups}, DType::uint8);
    int8_t* padded = reinterpret_cast<int8_t*>(q.data<uint8_t>());
    pad_queries(a.q + (b * n.length + block.begin) * n.heads * n.width, rows, n.width, padded);
    const Tensor x = Tensor::empty({rows, keys}, DType::int32);
    const int8_t* panels =
        reinterpret_cast<const int8_t*>(all.panels.data<uint8_t>() + b * all.panels.dim(1));
    const Int8Kernel kernel = fastest_int8_kernel();
    for (int64_t c = 0; c < panels_of(block.end); ++c) {
        int8_dots(kernel, {.q = padded,
                           .k = panels + c * groups * keys * 4,
                           .x = x.data<int32_t>(),
                           .rows = rows,
                           .groups = groups});
        sum_panel(block, x.data<int32_t>(), c, scores.data<float>(), scores.dim(1));
    }
}

}  // namespace sieve::cpu
