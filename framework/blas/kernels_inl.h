// The text behind GemmKernels, compiled once per instruction set: each kernels_<set>.cpp includes this file
// after choosing its target. Everything lies in an unnamed namespace, so that no two sets are mixed up by the
// linker.
//
// A tile of C is held in registers, `rows` times `vectors` accumulators. A step of k loads `vectors` vectors
// of B and multiplies them by `rows` scalars of A. Each element of C is one chain of multiply-adds over k in
// order, whatever the tile's size and place: that is the contract of gemm.h.

namespace sieve::cpu {
namespace {

template <class T, int bytes, int max_rows, int max_vectors>
struct KernelSet {
    static constexpr int lanes = bytes / static_cast<int>(sizeof(T));
    static constexpr int tile_columns = max_vectors * lanes;
    static_assert(max_rows <= lanes || max_rows % lanes == 0, "pack_transposed needs it");

    using Vector = cpu::Vector<T, lanes>;

    template <int rows, int vectors>
    static inline __attribute__((always_inline)) void write(const Vector (&sum)[rows][vectors],
                                                            bool accumulate, T* c, int64_t ldc) {
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) {
                T* place = c + r * ldc + v * lanes;
                if (accumulate)
                    store_anywhere<T, lanes>(place, load_anywhere<T, lanes>(place) + sum[r][v]);
                else
                    store_anywhere<T, lanes>(place, sum[r][v]);
            }
        }
    }

    // The first `columns` columns of the sums.
    template <int rows, int vectors>
    static inline __attribute__((always_inline)) void write_tile(const Vector (&sum)[rows][vectors],
                                                                 int64_t columns, bool accumulate, T* c,
                                                                 int64_t ldc) {
        if (columns == vectors * lanes) return write(sum, accumulate, c, ldc);
        // A narrower tile goes through a buffer of full width, by the same arithmetic.
        T buffer[rows * vectors * lanes] = {};
        if (accumulate)
            for (int r = 0; r < rows; ++r)
                for (int64_t j = 0; j < columns; ++j) buffer[r * vectors * lanes + j] = c[r * ldc + j];
        write(sum, accumulate, buffer, vectors * lanes);
        for (int r = 0; r < rows; ++r)
            for (int64_t j = 0; j < columns; ++j) c[r * ldc + j] = buffer[r * vectors * lanes + j];
    }

    template <int rows, int vectors, bool packed>
    static void tile_of(const Tile<T>& t) {
        Vector sum[rows][vectors] = {};
        const T* a = t.a;
        const T* b = t.b;
        const int64_t a_row = packed ? 1 : t.a_row;
        for (int64_t l = 0; l < t.k; ++l, a += t.a_step, b += t.b_step) {
            Vector bs[vectors];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) bs[v] = load_anywhere<T, lanes>(b + v * lanes);
#pragma GCC unroll 16
            for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
                for (int v = 0; v < vectors; ++v) sum[r][v] += a[r * a_row] * bs[v];
        }
        write_tile(sum, t.columns, t.accumulate, t.c, t.ldc);
    }

    template <int rows, int vectors>
    static void pick_tile(const Tile<T>& t) {
        if constexpr (vectors > 1)
            if (t.columns <= (vectors - 1) * lanes) return pick_tile<rows, vectors - 1>(t);
        if constexpr (rows > 1)
            if (t.rows < rows) return pick_tile<rows - 1, vectors>(t);
        t.a_row == 1 ? tile_of<rows, vectors, true>(t) : tile_of<rows, vectors, false>(t);
    }

    static void tile(const Tile<T>& t) {
        pick_tile<max_rows, max_vectors>(t);
    }

    template <int width>
    static void pack(const Panel<T>& p) {
        const T* source = p.source;
        T* panel = p.panel;
        if (p.count == width) {
            for (int64_t l = 0; l < p.k; ++l, source += p.ld, panel += width)
                __builtin_memcpy(panel, source, width * sizeof(T));
            return;
        }
        for (int64_t l = 0; l < p.k; ++l, source += p.ld, panel += width)
            for (int64_t j = 0; j < p.count; ++j) panel[j] = source[j];
    }

    // Transposes lanes x lanes elements: log2(lanes) rounds that interleave row i with row i + lanes/2.
    static inline __attribute__((always_inline)) void transpose(Vector (&x)[lanes]) {
        typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Index;
        typedef Index Indices __attribute__((vector_size(bytes)));
        Indices low, high;
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) {
            low[i] = i / 2 + (i % 2) * lanes;
            high[i] = low[i] + lanes / 2;
        }
#pragma GCC unroll 4
        for (int round = 1; round < lanes; round *= 2) {
            Vector y[lanes];
#pragma GCC unroll 16
            for (int i = 0; i < lanes / 2; ++i) {
                shuffle(x[i], x[i + lanes / 2], low, y[2 * i]);
                shuffle(x[i], x[i + lanes / 2], high, y[2 * i + 1]);
            }
#pragma GCC unroll 16
            for (int i = 0; i < lanes; ++i) x[i] = y[i];
        }
    }

    // Steps [0, whole) of k of up to `lanes` columns; the columns that are missing repeat the first one. A
    // store may spill into the next step's place, which is written after it.
    template <int width>
    static void pack_square(const T* source, int64_t ld, int64_t count, int64_t whole, T* panel) {
        constexpr int block = width < lanes ? width : lanes;
        const T* row[lanes];
        for (int i = 0; i < lanes; ++i) row[i] = source + (i < count ? i : 0) * ld;
        for (int64_t l = 0; l < whole; l += lanes) {
            Vector x[lanes];
#pragma GCC unroll 16
            for (int i = 0; i < lanes; ++i) {
                x[i] = Vector{};
                if (i < block) x[i] = load_anywhere<T, lanes>(row[i] + l);
            }
            transpose(x);
#pragma GCC unroll 16
            for (int i = 0; i < lanes; ++i) store_anywhere<T, lanes>(panel + (l + i) * width, x[i]);
        }
    }

    template <int width>
    static void pack_transposed(const Panel<T>& p) {
        const int64_t whole = p.k - p.k % lanes;
        for (int64_t j = 0; j < p.count; j += lanes)
            pack_square<width>(p.source + j * p.ld, p.ld, p.count - j, whole, p.panel + j);
        for (int64_t l = whole; l < p.k; ++l)
            for (int64_t j = 0; j < p.count; ++j) p.panel[l * width + j] = p.source[j * p.ld + l];
    }

    static const GemmKernels<T>& kernels(const char* name) {
        static const GemmKernels<T> set{.name = name,
                                        .tile_rows = max_rows,
                                        .tile_columns = tile_columns,
                                        .tile = tile,
                                        .pack_a = pack<max_rows>,
                                        .pack_a_transposed = pack_transposed<max_rows>,
                                        .pack_b = pack<tile_columns>,
                                        .pack_b_transposed = pack_transposed<tile_columns>};
        return set;
    }
};

}  // namespace
}  // namespace sieve::cpu
