// Which kernels compute what:
//
//   float32, precision bf16, heads of at most 128    bf16_tiles_cuda.cu     (tensor_tiles.cuh)
//   float32, precision tf32, heads of at most 128    tf32_tiles_cuda.cu     (tensor_tiles.cuh)
//   else                                             exact_tiles_cuda.cu    (exact_tiles.cuh)
//
// and here the bits of a selection, for both (attended.cuh). Deterministic, all of them.
#include "framework/attention/tiles/exact_tiles.h"
#include "framework/attention/tiles/head_rows.cuh"
#include "framework/attention/tiles/tensor_tiles.h"
#include "framework/attention/tiles/tile_launches.h"
#include "framework/core/precision.h"

namespace sieve::cuda {
namespace {

struct SelectionWords {
    SelectedKeys keys;
    int64_t length;  // of the selection
    uint32_t* words;
    uint8_t* squares;
    int64_t rows, padded_rows, row_words, sides, total;  // total: batch * padded_rows * row_words
};

constexpr int selection_threads = 256;

// One thread a word: it looks for the word's first key in the row, and takes the keys from there.
__global__ void __launch_bounds__(selection_threads) selection_words_kernel(SelectionWords a) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * selection_threads + threadIdx.x;
    if (i >= a.total) return;
    const int64_t w = i % a.row_words, row = i / a.row_words, t = row % a.padded_rows,
                  b = row / a.padded_rows;
    uint32_t bits = 0;
    if (t < a.rows && 32 * w <= t) {
        const int32_t* selected = a.keys.indices + (b * a.length + t) * a.keys.slots;
        const int64_t count = min(static_cast<int64_t>(a.keys.counts[b * a.length + t]), a.keys.slots);
        int64_t low = 0, high = count;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (selected[middle] < 32 * w)
                low = middle + 1;
            else
                high = middle;
        }
        for (; low < count && selected[low] < 32 * (w + 1); ++low)
            if (selected[low] >= 32 * w && selected[low] <= t) bits |= 1u << (selected[low] - 32 * w);
    }
    a.words[i] = bits;
    if (bits == 0) return;
    uint8_t* squares = a.squares + b * a.sides * a.sides;
    const int64_t query = t / square, key = 32 * w / square;
    squares[query * a.sides + key] = 1;
    squares[key * a.sides + query] = 1;
}

// Owns the words of a selection's first `rows` rows; nothing when there is no selection.
class AttendedTiles {
  public:
    AttendedTiles(const SelectedKeys& keys, const AttentionSizes& size, int64_t rows) {
        attended_ = {.words = nullptr, .squares = nullptr, .rows = static_cast<int>(rows)};
        if (!keys.indices) return;
        const int64_t sides = (rows + square - 1) / square, row_words = sides * (square / 32);
        const int64_t total = size.batch * attended_.padded_rows() * row_words;
        words_ = device_scratch<uint32_t>(total);
        squares_ = device_scratch<uint8_t>(size.batch * sides * sides);
        attended_.words = scratch_data<uint32_t>(words_);
        attended_.squares = scratch_data<uint8_t>(squares_);
        attended_.row_words = static_cast<int>(row_words);
        attended_.sides = static_cast<int>(sides);
        fill_zero(squares_.raw(), squares_.bytes());
        launch_kernel(
            selection_words_kernel,
            {.blocks = dim3(blocks_for(total, selection_threads)), .threads = dim3(selection_threads)},
            SelectionWords{.keys = keys,
                           .length = size.length,
                           .words = scratch_data<uint32_t>(words_),
                           .squares = scratch_data<uint8_t>(squares_),
                           .rows = rows,
                           .padded_rows = attended_.padded_rows(),
                           .row_words = row_words,
                           .sides = sides,
                           .total = total});
    }
    const Attended& attended() const { return attended_; }

  private:
    Tensor words_, squares_;
    Attended attended_;
};

// How the products of tiles are computed: on the tensor cores where the precision and the heads allow it.
template <class T>
Precision tile_precision(const AttentionSizes& size) {
    if (std::is_same_v<T, double>) return Precision::fp32;
    return std::max(size.dim, size.value_dim) <= widest_tensor_tiles ? precision() : Precision::fp32;
}

}  // namespace

template <class T>
void attend_by_tiles(const AttentionForward<T>& a, int64_t rows) {
    const AttendedTiles tiles(a.keys, a.size, rows);
    const Precision products = tile_precision<T>(a.size);
    if constexpr (std::is_same_v<T, float>) {
        if (products == Precision::bf16) return bf16_tiles_forward(a, tiles.attended());
        if (products == Precision::tf32) return tf32_tiles_forward(a, tiles.attended());
    }
    exact_tiles_forward(a, tiles.attended());
}

template <class T>
void attend_back_by_tiles(const AttentionBackward<T>& a, int64_t rows) {
    const AttendedTiles tiles(a.keys, a.size, rows);
    const Precision products = tile_precision<T>(a.size);
    if constexpr (std::is_same_v<T, float>) {
        if (products == Precision::bf16) return bf16_tiles_backward(a, tiles.attended());
        if (products == Precision::tf32) return tf32_tiles_backward(a, tiles.attended());
    }
    exact_tiles_backward(a, tiles.attended());
}

template <class T>
void dense_attention_forward(const AttentionForward<T>& a) {
    attend_by_tiles(a, a.size.length);
}

template <class T>
void dense_attention_backward(const AttentionBackward<T>& a) {
    attend_back_by_tiles(a, a.size.length);
}

template void attend_by_tiles(const AttentionForward<float>&, int64_t);
template void attend_by_tiles(const AttentionForward<double>&, int64_t);
template void attend_back_by_tiles(const AttentionBackward<float>&, int64_t);
template void attend_back_by_tiles(const AttentionBackward<double>&, int64_t);
template void dense_attention_forward(const AttentionForward<float>&);
template void dense_attention_forward(const AttentionForward<double>&);
template void dense_attention_backward(const AttentionBackward<float>&);
template void dense_attention_backward(const AttentionBackward<double>&);

}  // namespace sieve::cuda
