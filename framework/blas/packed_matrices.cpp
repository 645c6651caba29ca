#include "framework/blas/packed_matrices.h"

#include <atomic>
#include <map>
#include <mutex>
#include <shared_mutex>

#include "framework/blas/packed_parts.h"
#include "framework/core/precision.h"

namespace sieve::cpu {
namespace {

struct Entry {
    int64_t n, k;
    Precision precision;
    PackedParts parts;
    int64_t holders = 0;
};

struct Registry {
    std::shared_mutex mutex;
    std::map<const float*, Entry> entries;
    std::atomic<bool> any{false};  // products look no further while there is nothing
};

Registry& registry() {
    static Registry the_registry;
    return the_registry;
}

// tf32 is a GPU's: a CPU computes exactly then.
Precision effective_precision() {
    return precision() == Precision::bf16 ? Precision::bf16 : Precision::fp32;
}

Gemm<float> product_of(const PackedMatrices::Matrix& m) {
    return {.transpose_b = true, .n = m.n, .k = m.k, .b = m.b, .ldb = m.k};
}

}  // namespace

// Delegates, so that an object whose memory does not suffice gives back what it holds: what stayed would be multiplied
// in place of whatever lies there next.
PackedMatrices::PackedMatrices(const std::vector<Matrix>& matrices) : PackedMatrices() {
    Registry& r = registry();
    const std::unique_lock lock(r.mutex);
    held_.reserve(matrices.size());
    for (const Matrix& m : matrices) {
        if (m.n == 0 || m.k == 0) continue;
        auto found = r.entries.find(m.b);
        if (found == r.entries.end())
            found = r.entries.emplace(m.b, Entry{m.n, m.k, effective_precision(), pack_parts(product_of(m))})
                        .first;
        ++found->second.holders;
        held_.push_back(m);
    }
    r.any = !r.entries.empty();
}

PackedMatrices::~PackedMatrices() {
    Registry& r = registry();
    const std::unique_lock lock(r.mutex);
    for (const Matrix& m : held_) {
        const auto found = r.entries.find(m.b);
        if (--found->second.holders == 0) r.entries.erase(found);
    }
    r.any = !r.entries.empty();
}

const PackedParts* packed_parts(const Gemm<float>& g) {
    Registry& r = registry();
    if (!r.any || !g.transpose_b || g.ldb != g.k || g.alpha != 1) return nullptr;
    const std::shared_lock lock(r.mutex);
    const auto found = r.entries.find(g.b);
    if (found == r.entries.end()) return nullptr;
    const Entry& e = found->second;
    return e.n == g.n && e.k == g.k && e.precision == effective_precision() ? &e.parts : nullptr;
}

}  // namespace sieve::cpu
