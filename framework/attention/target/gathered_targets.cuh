// The target of the indexer's training for chosen keys alone, by gathering them (scores/gathered_scores.cuh).
//
// FLOPs a chosen pair: 2 H dh. Bytes: G dh elements gathered, mostly from the L2 cache. Deterministic.
#pragma once

#include "framework/attention/scores/gathered_scores.cuh"
#include "framework/attention/target/attention_head_rows.cuh"

namespace sieve::cuda {

// value = sum over the main attention's heads of exp(scale product - lse).
template <class T>
struct GatheredTargets {
    static constexpr bool has_signs = false;
    AttentionTarget<T> attention;
    int64_t length;
    uint32_t* masks = nullptr;

    __device__ ScoredRows<T> rows(int64_t b) const { return attention_head_rows(attention, length, b); }
    __device__ T term(int64_t row, int h, T product) const {
        const T log_sum = attention.lse[(row / length * attention.heads + h) * length + row % length];
        return exp(static_cast<T>(attention.scale) * product - log_sum);
    }
};

// The heads that share a key head are the right operand, up to 8 at a time.
template <class Words, int chunks, int tiles>
__global__ void __launch_bounds__(fragment_gather_threads)
    fragment_target_kernel(ChosenKeys keys, AttentionTarget<float> a, const uint4* packed, float* values) {
    using Keys = FragmentKeys<Words, chunks, tiles>;
    constexpr int pieces = chunks * 4;
    constexpr float log2_e = 1.44269504f;
    uint4* q = dynamic_shared<uint4>();  // [H, pieces]
    float* lse = reinterpret_cast<float*>(q + a.heads * pieces);
    const int64_t row = blockIdx.x, b = row / keys.length, t = row % keys.length;
    const int count = keys.count(row), width = static_cast<int>(a.width), heads = static_cast<int>(a.heads);
    const int group = static_cast<int>(a.heads / a.key_heads), lane = threadIdx.x % warp_size;
    for (int i = threadIdx.x; i < heads * pieces; i += fragment_gather_threads)
        q[i] = packed_piece<Words>(a.q + ((b * heads + i / pieces) * keys.length + t) * width,
                                   i % pieces * 4 * Words::elements, width, whole_packs<float>(width));
    for (int i = threadIdx.x; i < heads; i += fragment_gather_threads)
        lse[i] = log2_e * a.lse[(b * heads + i) * keys.length + t];
    __syncthreads();
    const float scale = log2_e * static_cast<float>(a.scale);
    for (int first = static_cast<int>(threadIdx.x) / warp_size * Keys::keys; first < count;
         first += fragment_gather_threads / warp_size * Keys::keys) {
        float sum[2 * tiles] = {};
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
                    for (int v = 0; v < 2 * tiles; ++v)
                        sum[v] += exp2f(scale * x[v / 2][v % 2 * 2 + e] - lse[h + j]);
                }
            }
        }
        const float value = Keys::over_heads(sum, Sum());
        const int slot = first + Keys::own();
        if (Keys::owns() && slot < count) values[row * keys.slots() + slot] = value;
    }
}

inline void gather_targets(const ChosenKeys& keys, const AttentionTarget<double>& a, double* values) {
    gather(keys, a.heads / a.key_heads, GatheredTargets<double>{a, keys.length}, values);
}
inline void gather_targets(const ChosenKeys& keys, const AttentionTarget<float>& a, float* values) {
    bool done = false;
    with_fragments(a.width, [&]<class Shape>(Shape) {
        const size_t bytes = static_cast<size_t>(a.heads) * (Shape::chunks * 64 + sizeof(float));
        if (bytes > most_shared_bytes()) return;
        const Tensor packed = packed_rows<typename Shape::Words, Shape::chunks>(
            a.k, keys.batch * a.key_heads * keys.length, a.width);
        launch_kernel(fragment_target_kernel<typename Shape::Words, Shape::chunks, Shape::tiles>,
                      {.blocks = dim3(static_cast<unsigned>(keys.rows())),
                       .threads = dim3(fragment_gather_threads),
                       .shared_bytes = bytes},
                      keys, a, static_cast<const uint4*>(packed.raw()), values);
        done = true;
    });
    if (!done) gather(keys, a.heads / a.key_heads, GatheredTargets<float>{a, keys.length}, values);
}

}  // namespace sieve::cuda
