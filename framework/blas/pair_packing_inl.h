// Packing into pairs of bfloat16, compiled once per instruction set as kernels_inl.h is, which this file needs
// before it. `Rounding` is PlainRounding or the instruction's (avx512_bf16_inl.h).

namespace sieve::cpu {
namespace {

template <int bytes>
struct PlainRounding {
    static constexpr int lanes = bytes / 4;
    using Vector = cpu::Vector<float, lanes>;
    using Bits = cpu::Vector<uint32_t, lanes>;

    static inline __attribute__((always_inline)) Bits round(Vector x) {
        const Bits bits = (Bits)x, magnitude = bits & 0x7fffffff;
        const Bits nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        const Bits number = magnitude < 0x00800000 ? bits >> 16 & 0x8000 : nearest;
        return magnitude > 0x7f800000 ? bits >> 16 | 0x40 : number;
    }
    // Words of the elements of two vectors.
    static inline __attribute__((always_inline)) Vector pairs(Vector low, Vector high) {
        return (Vector)(round(low) | round(high) << 16);
    }
    // Words of the neighbouring elements of x, then of y.
    static inline __attribute__((always_inline)) Vector neighbours(Vector x, Vector y) {
        Integers<float, lanes> even, odd;
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) {
            even[i] = 2 * i;
            odd[i] = 2 * i + 1;
        }
        Vector low, high;
        shuffle(x, y, even, low);
        shuffle(x, y, odd, high);
        return pairs(low, high);
    }
};

template <int bytes, int max_vectors, template <int> class Rounding = PlainRounding>
struct PairPacking {
    using Floats = KernelSet<float, bytes, 1, max_vectors>;
    using Vector = typename Floats::Vector;
    static constexpr int lanes = Floats::lanes;
    static constexpr int width = Floats::tile_columns;
    static_assert(pairs_of_row % lanes == 0);

    static inline __attribute__((always_inline)) void store_words(Bf16Pair* p, const Vector& words) {
        store_anywhere<float, lanes>(reinterpret_cast<float*>(p), words);
    }

    // `count` numbers, then zeros.
    static inline __attribute__((always_inline)) Vector load(const float* p, int64_t count) {
        if (count >= lanes) return load_anywhere<float, lanes>(p);
        float buffer[lanes] = {};
        for (int64_t j = 0; j < count; ++j) buffer[j] = p[j];
        return load_anywhere<float, lanes>(buffer);
    }

    // Words of steps 2l, 2l + 1 of k, for `lanes` of the rows or columns that lie side by side from j on.
    static inline __attribute__((always_inline)) Vector steps_across(const PairPanel& p, int64_t l,
                                                                     int64_t j) {
        const float* source = p.source + 2 * l * p.ld + j;
        const Vector low = 2 * l < p.k ? load(source, p.count - j) : Vector{};
        const Vector high = 2 * l + 1 < p.k ? load(source + p.ld, p.count - j) : Vector{};
        return Rounding<bytes>::pairs(p.alpha * low, p.alpha * high);
    }
    // Words l to l + lanes of row or column j, whose steps lie side by side.
    static inline __attribute__((always_inline)) Vector steps_along(const PairPanel& p, int64_t l,
                                                                    int64_t j) {
        const float* source = p.source + j * p.ld + 2 * l;
        const int64_t left = p.k - 2 * l;
        if (left >= 2 * lanes)
            return Rounding<bytes>::neighbours(p.alpha * load_anywhere<float, lanes>(source),
                                               p.alpha * load_anywhere<float, lanes>(source + lanes));
        const Vector first = load(source, left),
                     second = left > lanes ? load(source + lanes, left - lanes) : Vector{};
        return Rounding<bytes>::neighbours(p.alpha * first, p.alpha * second);
    }

    static void pack_a(const PairPanel& p) {
        for (int64_t i = 0; i < p.count; ++i)
            for (int64_t l = 0; l < p.pairs; l += lanes)
                store_words(p.panel + i * row_stride + l, steps_along(p, l, i));
    }

    static void pack_a_transposed(const PairPanel& p) {
        for (int64_t l = 0; l < p.pairs; l += lanes)
            for (int64_t i = 0; i < p.count; i += lanes) {
                Vector x[lanes];
#pragma GCC unroll 16
                for (int r = 0; r < lanes; ++r) x[r] = steps_across(p, l + r, i);
                Floats::transpose(x);
                for (int r = 0; r < std::min<int64_t>(lanes, p.count - i); ++r)
                    store_words(p.panel + (i + r) * row_stride + l, x[r]);
            }
    }

    static void pack_b(const PairPanel& p) {
        for (int64_t l = 0; l < p.pairs; ++l)
            for (int64_t j = 0; j < p.count; j += lanes)
                store_words(p.panel + l * width + j, steps_across(p, l, j));
    }

    static void pack_b_transposed(const PairPanel& p) {
        for (int64_t j = 0; j < p.count; j += lanes)
            for (int64_t l = 0; l < p.pairs; l += lanes) {
                Vector x[lanes];
#pragma GCC unroll 16
                for (int r = 0; r < lanes; ++r) x[r] = j + r < p.count ? steps_along(p, l, j + r) : Vector{};
                Floats::transpose(x);
                for (int r = 0; r < std::min<int64_t>(lanes, p.pairs - l); ++r)
                    store_words(p.panel + (l + r) * width + j, x[r]);
            }
    }

    // The packing of a set of `rows` x width tiles.
    static PairKernels kernels(const char* name, int64_t rows, int64_t pairs_at_once,
                               void (*tile_function)(const PairTile&)) {
        return {.name = name,
                .tile_rows = rows,
                .tile_columns = width,
                .pairs_at_once = pairs_at_once,
                .tile = tile_function,
                .pack_a = pack_a,
                .pack_a_transposed = pack_a_transposed,
                .pack_b = pack_b,
                .pack_b_transposed = pack_b_transposed};
    }
};

}  // namespace
}  // namespace sieve::cpu
