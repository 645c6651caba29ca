// A tile of C by AMX: 2 x 2 tiles of 16 x 16 sums, which tdpbf16ps adds to, 32 steps of k at a time:
//
//   e, o = 0;  for each of 16 pairs:  e = fma(a0, b0, e), o = fma(a1, b1, o);  then c = c + (e + o)
//
// each operation rounded to nearest even, subnormal operands and results being zero (Intel 64 and IA-32
// Architectures Software Developer's Manual, volume 2, TDPBF16PS; compared bit by bit with that model on
// Sapphire Rapids, with 0 differences). So 32 steps are summed apart from c, and the bits are not those of
// vdpbf16ps. C is added where a k_block ends, outside of the tiles.
//
// `Tiles` is the processor's (kernels_amx.cpp), or a model of them in tests.

namespace sieve::cpu {
namespace {

constexpr int64_t amx_tile_rows = 32, amx_tile_columns = 32, amx_tile_pairs = 16;

template <class Tiles>
inline __attribute__((always_inline)) void amx_sums(const PairTile& t, bool two_rows, bool two_columns) {
    constexpr int64_t a_bytes = row_stride * sizeof(Bf16Pair), b_bytes = amx_tile_columns * sizeof(Bf16Pair);
    Tiles::zero_sums();
    for (int64_t l = 0; l < t.pairs; l += amx_tile_pairs) {
        const Bf16Pair* b = t.b + l * amx_tile_columns;
        Tiles::load_a0(t.a + l, a_bytes);
        Tiles::load_b0(b, b_bytes);
        Tiles::multiply_00();
        if (two_columns) {
            Tiles::load_b1(b + 16, b_bytes);
            Tiles::multiply_01();
        }
        if (two_rows) {
            Tiles::load_a1(t.a + 16 * row_stride + l, a_bytes);
            Tiles::multiply_10();
        }
        if (two_rows && two_columns) Tiles::multiply_11();
    }
}

template <class Tiles>
void amx_tile(const PairTile& t) {
    amx_sums<Tiles>(t, t.rows > 16, t.columns > 16);
    if (!t.accumulate && t.rows == amx_tile_rows && t.columns == amx_tile_columns)
        return Tiles::store_sums(t.c, t.ldc);
    alignas(64) float sums[amx_tile_rows * amx_tile_columns];
    Tiles::store_sums(sums, amx_tile_columns);
    for (int64_t r = 0; r < t.rows; ++r) {
        float* c = t.c + r * t.ldc;
        const float* sum = sums + r * amx_tile_columns;
        if (t.accumulate)
            for (int64_t j = 0; j < t.columns; ++j) c[j] += sum[j];
        else
            for (int64_t j = 0; j < t.columns; ++j) c[j] = sum[j];
    }
}

}  // namespace
}  // namespace sieve::cpu
