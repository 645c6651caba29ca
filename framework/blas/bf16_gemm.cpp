// float32 products whose operands are rounded to bfloat16: which instructions multiply them.
#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "framework/blas/float_operands_inl.h"
#include "framework/blas/gemm.h"
#include "framework/blas/kernels.h"
#include "framework/blas/pair_operands_inl.h"
#include "framework/core/error.h"

namespace sieve::cpu {
namespace {

enum class Way { float32, avx512_bf16, amx };  // each better than the one before

Way best_way_allowed() {
    const char* text = std::getenv("SIEVE_BF16");
    const std::string name = text ? text : "amx";
    if (name == "amx") return Way::amx;
    if (name == "avx512_bf16") return Way::avx512_bf16;
    if (name == "float32") return Way::float32;
    fail_usage("SIEVE_BF16: '" + name + "', want amx, avx512_bf16 or float32");
}

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define SIEVE_HAS_PAIR_KERNELS

// Linux gives tiles to a process that asks for them, once, for all of its threads. Empty when it did.
std::string ask_for_tiles() {
    constexpr int request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
    constexpr int tile_data = 18;               // XFEATURE_XTILEDATA
    if (syscall(SYS_arch_prctl, request_permission, tile_data) == 0) return "";
    return std::string("arch_prctl: ") + std::strerror(errno);
}
#endif

std::string tiles_text(const std::string& name, int64_t rows, int64_t columns) {
    return name + ", " + std::to_string(rows) + "x" + std::to_string(columns) + " tiles";
}

struct Choice {
    const PairKernels* pairs = nullptr;  // null: rounded operands in float32
    const GemmKernels<float>* floats = nullptr;
    Bf16Products products;
};

Choice choose() {
    Choice choice;
    std::string refused;
    const std::vector<const PairKernels*> pairs = supported_pair_kernels(&refused);
    if (!pairs.empty()) {
        const PairKernels& k = *pairs.front();
        choice.pairs = &k;
        choice.products = {tiles_text(k.name, k.tile_rows, k.tile_columns), true, refused};
        return choice;
    }
    const GemmKernels<float>& k = *supported_gemm_kernels<float>().front();
    choice.floats = &k;
    choice.products = {"rounding, then float32: " + tiles_text(k.name, k.tile_rows, k.tile_columns), false,
                       refused};
    return choice;
}

const Choice& choice() {
    static const Choice the_choice = choose();
    return the_choice;
}

// f with the operands that were chosen.
template <class F>
void with_operands(const F& f) {
    if (choice().pairs) return f(PairOperands(*choice().pairs));
    f(FloatOperands<float>(*choice().floats, true));
}

}  // namespace

std::vector<const PairKernels*> supported_pair_kernels([[maybe_unused]] std::string* refused) {
    std::vector<const PairKernels*> sets;
    [[maybe_unused]] const Way best = best_way_allowed();
#ifdef SIEVE_HAS_PAIR_KERNELS
    if (!__builtin_cpu_supports("x86-64-v4") || !__builtin_cpu_supports("avx512bf16")) return sets;
    if (best >= Way::amx && __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16")) {
        const std::string why = ask_for_tiles();
        if (why.empty())
            sets.push_back(&pair_kernels_amx());
        else if (refused)
            *refused = why;
    }
    if (best >= Way::avx512_bf16) sets.push_back(&pair_kernels_avx512_bf16());
#endif
    return sets;
}

const Bf16Products& bf16_products() {
    return choice().products;
}

void bf16_gemm(const Gemm<float>& g, bool lower_only) {
    const PackedParts* packed = packed_parts(g);
    with_operands([&](const auto& operands) { multiply(operands, g, lower_only, packed); });
}

PackedParts pack_bf16_parts(const Gemm<float>& g) {
    PackedParts parts;
    with_operands([&](const auto& operands) { parts = pack_with(operands, g); });
    return parts;
}

void reserve_bf16_gemm(const Gemm<float>& g) {
    with_operands([&](const auto& operands) { reserve(operands, g); });
}

void gemm_with(const PairKernels& kernels, const Gemm<float>& g) {
    multiply(PairOperands(kernels), g, false);
}

void gemm_with_rounded(const GemmKernels<float>& kernels, const Gemm<float>& g) {
    multiply(FloatOperands<float>(kernels, true), g, false);
}

}  // namespace sieve::cpu
