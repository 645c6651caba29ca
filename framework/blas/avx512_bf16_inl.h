// What AVX512_BF16 has instructions for: rounding while packing, and the tile by vdpbf16ps. For files whose target
// has it, after pair_packing_inl.h.

namespace sieve::cpu {
namespace {

template <int bytes>
struct InstructionRounding {
    static_assert(bytes == 64);
    using Vector = cpu::Vector<float, 16>;

    static inline __attribute__((always_inline)) Vector neighbours(Vector x, Vector y) {
        return (Vector)_mm512_cvtne2ps_pbh((__m512)y, (__m512)x);
    }
    static inline __attribute__((always_inline)) Vector pairs(Vector low, Vector high) {
        cpu::Vector<uint16_t, 32> order;
#pragma GCC unroll 32
        for (int i = 0; i < 32; ++i) order[i] = static_cast<uint16_t>(i / 2 + i % 2 * 16);
        return (Vector)_mm512_permutexvar_epi16((__m512i)order, (__m512i)neighbours(low, high));
    }
};

template <int max_rows, int max_vectors>
struct DotProductTile {
    using Floats = KernelSet<float, 64, max_rows, max_vectors>;
    using Vector = typename Floats::Vector;
    static constexpr int lanes = Floats::lanes;

    template <int rows, int vectors>
    static void tile_of(const PairTile& t) {
        Vector sum[rows][vectors] = {};
        const Bf16Pair* a = t.a;
        const float* b = reinterpret_cast<const float*>(t.b);
        for (int64_t l = 0; l < t.pairs; ++l, ++a, b += max_vectors * lanes) {
            Vector bs[vectors];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) bs[v] = load_anywhere<float, lanes>(b + v * lanes);
#pragma GCC unroll 16
            for (int r = 0; r < rows; ++r) {
                const __m512bh both = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[r * row_stride]));
#pragma GCC unroll 4
                for (int v = 0; v < vectors; ++v)
                    sum[r][v] = (Vector)_mm512_dpbf16_ps((__m512)sum[r][v], both, (__m512bh)bs[v]);
            }
        }
        Floats::write_tile(sum, t.columns, t.accumulate, t.c, t.ldc);
    }

    template <int rows, int vectors>
    static void pick_tile(const PairTile& t) {
        if constexpr (vectors > 1)
            if (t.columns <= (vectors - 1) * lanes) return pick_tile<rows, vectors - 1>(t);
        if constexpr (rows > 1)
            if (t.rows < rows) return pick_tile<rows - 1, vectors>(t);
        tile_of<rows, vectors>(t);
    }

    static void tile(const PairTile& t) {
        pick_tile<max_rows, max_vectors>(t);
    }
};

}  // namespace
}  // namespace sieve::cpu
