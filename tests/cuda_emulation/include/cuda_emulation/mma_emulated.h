// The tensor-core functions of framework/core/cuda/mma.cuh (their contract is there), computed by the lane
// that comes last.
#pragma once

#include <cstdint>
#include <source_location>

namespace sieve::cuda_emulation {

void issue_async_copy(void* shared, const void* global, int bytes, const std::source_location& where);
void commit_async_copies();
void wait_async_copies(int groups_left);
void load_matrices(uint32_t* registers, int count, bool transposed, const void* row,
                   const std::source_location& where);

}  // namespace sieve::cuda_emulation

namespace sieve::cuda {

void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                       const std::source_location& where = std::source_location::current());
void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                      const std::source_location& where = std::source_location::current());

inline void ldmatrix_x4(uint32_t (&r)[4], const void* row,
                        const std::source_location& where = std::source_location::current()) {
    cuda_emulation::load_matrices(r, 4, false, row, where);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row,
                              const std::source_location& where = std::source_location::current()) {
    cuda_emulation::load_matrices(r, 4, true, row, where);
}
inline void ldmatrix_x2(uint32_t (&r)[2], const void* row,
                        const std::source_location& where = std::source_location::current()) {
    cuda_emulation::load_matrices(r, 2, false, row, where);
}
inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row,
                              const std::source_location& where = std::source_location::current()) {
    cuda_emulation::load_matrices(r, 2, true, row, where);
}

inline void cp_async_16(void* shared, const void* global, int bytes = 16,
                        const std::source_location& where = std::source_location::current()) {
    cuda_emulation::issue_async_copy(shared, global, bytes, where);
}
inline void cp_async_commit() {
    cuda_emulation::commit_async_copies();
}
template <int groups_left>
void cp_async_wait() {
    cuda_emulation::wait_async_copies(groups_left);
}

uint32_t to_tf32(float x);

}  // namespace sieve::cuda
