// The target of the indexer's training for chosen keys alone: their products with the queries of all heads,
// gathered as in scores/gathered_scores.cuh, then the softmaxes (target_softmax.cuh); some rows at a time.
//
// FLOPs a chosen pair: 2 H dh, and 2 H exponentials. Bytes: G dh elements gathered, mostly from the L2 cache,
// and H products written and read again. Deterministic.
#pragma once

#include <algorithm>

#include "framework/attention/scores/gathered_scores.cuh"
#include "framework/attention/target/attention_head_rows.cuh"
#include "framework/attention/target/target_softmax.cuh"

namespace sieve::cuda {

// Rows [first, first + rows) of [B T].
template <class T>
struct GatheredProducts {
    ChosenKeys keys;
    AttentionTarget<T> attention;
    int64_t first, rows;
    T* z;  // [rows, H, slots]

    __device__ T* at(int64_t row, int64_t h) const {
        return z + ((row - first) * attention.heads + h) * keys.slots();
    }
};

template <class T, int most_heads>
__global__ void __launch_bounds__(128) gathered_product_kernel(GatheredProducts<T> a) {
    const ChosenKeys& keys = a.keys;
    const int64_t tiles = (keys.slots() + blockDim.x - 1) / blockDim.x, row = a.first + blockIdx.x / tiles;
    const int first = static_cast<int>(blockIdx.x % tiles * blockDim.x), count = keys.count(row);
    if (first >= count) return;
    const int slot = first + static_cast<int>(threadIdx.x);
    const ScoredRows<T> rows = attention_head_rows(a.attention, keys.length, row / keys.length);
    GatherTile<T, most_heads> tile(rows, row % keys.length);
    tile.key[threadIdx.x] = keys.key(row, slot < count ? slot : count - 1);
    __syncthreads();
    tile.for_each_head(
        [&](int h, T product) {
            if (slot < count) a.at(row, h)[slot] = product;
        },
        [](int) {});
}

// On tensor cores. The heads that share a key head are the right operand, up to 8 at a time.
template <class Words, int chunks, int tiles>
__global__ void __launch_bounds__(fragment_gather_threads)
    fragment_gathered_product_kernel(GatheredProducts<float> n, const uint4* packed) {
    using Keys = FragmentKeys<Words, chunks, tiles>;
    constexpr int pieces = chunks * 4;
    uint4* q = dynamic_shared<uint4>();  // [H, pieces]
    const ChosenKeys& keys = n.keys;
    const AttentionTarget<float>& a = n.attention;
    const int64_t row = n.first + blockIdx.x, b = row / keys.length, t = row % keys.length;
    const int count = keys.count(row), width = static_cast<int>(a.width), heads = static_cast<int>(a.heads);
    const int group = static_cast<int>(a.heads / a.key_heads), lane = threadIdx.x % warp_size;
    for (int i = threadIdx.x; i < heads * pieces; i += fragment_gather_threads)
        q[i] = packed_piece<Words>(a.q + ((b * heads + i / pieces) * keys.length + t) * width,
                                   i % pieces * 4 * Words::elements, width, whole_packs<float>(width));
    __syncthreads();
    for (int first = static_cast<int>(threadIdx.x) / warp_size * Keys::keys; first < count;
         first += fragment_gather_threads / warp_size * Keys::keys) {
        for (int key_head = 0; key_head < a.key_heads; ++key_head) {
            const Keys own(packed + (b * a.key_heads + key_head) * keys.length * pieces,
                           [&](int i) { return keys.key(row, first + i < count ? first + i : count - 1); });
            for (int h = key_head * group; h < (key_head + 1) * group; h += 8) {
                const int left = (key_head + 1) * group - h;
                const uint4* mine = lane / 4 < left ? q + (h + lane / 4) * pieces + lane % 4 : nullptr;
                float x[tiles][4] = {};
                own.multiply([&](int c) { return mine ? mine[c * 4] : uint4{}; }, x);
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    const int j = lane % 4 * 2 + e;
                    if (j >= left) continue;
#pragma unroll
                    for (int v = 0; v < 2 * tiles; ++v) {
                        const int slot = first + 8 * v + lane / 4;
                        if (slot < count) n.at(row, h + j)[slot] = x[v / 2][v % 2 * 2 + e];
                    }
                }
            }
        }
    }
}

template <class T, int most_heads>
void launch_gathered_products(const GatheredProducts<T>& a) {
    const int threads = a.keys.slots() > 64 ? 128 : 64;
    const int64_t tiles = (a.keys.slots() + threads - 1) / threads;
    launch_kernel(gathered_product_kernel<T, most_heads>,
                  {.blocks = dim3(static_cast<unsigned>(a.rows * tiles)),
                   .threads = dim3(static_cast<unsigned>(threads)),
                   .shared_bytes = GatherTile<T, most_heads>::bytes(threads)},
                  a);
}

// The keys in the form that the tensor cores read; undefined where products are exact.
struct PackedTargetKeys {
    explicit PackedTargetKeys(const ChosenKeys&, const AttentionTarget<double>&) {}
    PackedTargetKeys(const ChosenKeys& keys, const AttentionTarget<float>& a) {
        with_fragments(a.width, [&]<class Shape>(Shape) {
            if (shared_bytes<Shape>(a.heads) <= most_shared_bytes())
                packed = packed_rows<typename Shape::Words, Shape::chunks>(
                    a.k, keys.batch * a.key_heads * keys.length, a.width);
        });
    }
    template <class Shape>
    static size_t shared_bytes(int64_t heads) {
        return static_cast<size_t>(heads) * Shape::chunks * 64;
    }
    Tensor packed;
};

template <class T>
void gather_products(const GatheredProducts<T>& a, const Tensor& packed) {
    if constexpr (std::is_same_v<T, float>)
        if (packed.defined()) {
            with_fragments(a.attention.width, [&]<class Shape>(Shape) {
                launch_kernel(
                    fragment_gathered_product_kernel<typename Shape::Words, Shape::chunks, Shape::tiles>,
                    {.blocks = dim3(static_cast<unsigned>(a.rows)),
                     .threads = dim3(fragment_gather_threads),
                     .shared_bytes = PackedTargetKeys::shared_bytes<Shape>(a.attention.heads)},
                    a, static_cast<const uint4*>(packed.raw()));
            });
            return;
        }
    const int64_t group = a.attention.heads / a.attention.key_heads;
    if (group == 1) return launch_gathered_products<T, 1>(a);
    if (group <= 4) return launch_gathered_products<T, 4>(a);
    launch_gathered_products<T, 16>(a);
}

// values [B T, slots]: H times the target of the chosen keys.
template <class T>
void gather_targets(const ChosenKeys& keys, const AttentionTarget<T>& a, T* values) {
    const PackedTargetKeys packed(keys, a);
    const int64_t most = std::max<int64_t>(1, chunk_limits().elements / (a.heads * keys.slots()));
    for (int64_t first = 0; first < keys.rows(); first += most) {
        const int64_t rows = std::min(most, keys.rows() - first);
        const Tensor z = Tensor::empty(Shape{rows, a.heads, keys.slots()}, dtype_of<T>, device);
        gather_products(GatheredProducts<T>{keys, a, first, rows, z.template data<T>()}, packed.packed);
        // All rows of [B T] as those of one batch row: where a row lies is all that the keys ask.
        target_softmax(TargetSoftmax<T>{.z = z.template data<T>(),
                                        .p = values + first * keys.slots(),
                                        .stride = keys.slots(),
                                        .heads = a.heads,
                                        .chunk = {.batch = 0, .batches = 1, .first = first, .rows = rows},
                                        .p_batch = 0,
                                        .scale = static_cast<T>(a.scale),
                                        .keys = keys,
                                        .packed = true});
    }
}

}  // namespace sieve::cuda
