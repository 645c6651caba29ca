// Barriers and warp collectives. All of them are checked: see engine.h.
#pragma once

#include <bit>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "cuda_emulation/engine.h"

namespace sieve::cuda_emulation {

using Where = std::source_location;

// One lane's part in a shuffle: reads `source`, or keeps its own value when source is its own lane.
struct Shuffle {
    uint64_t bits;
    unsigned int source, lane;
};
void resolve_shuffle(uint32_t lanes, void* const (&operands)[32]);

// The last lane of the segment of `width` lanes that holds `lane`; `width` is a power of two up to 32.
unsigned int segment_end(const char* name, unsigned int lane, int width, const Where& where);

template <class T>
T shuffle(const char* name, unsigned int mask, T value, unsigned int source, unsigned int lane,
          const Where& where) {
    static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                  "shuffles take 32- and 64-bit values");
    Shuffle operands{.bits = 0, .source = source, .lane = lane};
    std::memcpy(&operands.bits, &value, sizeof(T));
    warp_collective(name, mask, &operands, resolve_shuffle, where);
    std::memcpy(&value, &operands.bits, sizeof(T));
    return value;
}

// A lane's value for a vote, a match or a reduction, and what it gets back.
struct Lane {
    uint64_t value;
    uint32_t result;
};
void resolve_nothing(uint32_t lanes, void* const (&operands)[32]);
void resolve_ballot(uint32_t lanes, void* const (&operands)[32]);
void resolve_match_any(uint32_t lanes, void* const (&operands)[32]);

inline uint32_t ballot(const char* name, unsigned int mask, bool predicate, const Where& where) {
    Lane operands{.value = predicate, .result = 0};
    warp_collective(name, mask, &operands, resolve_ballot, where);
    return operands.result;
}

template <class T, class Combine>
void resolve_reduction(uint32_t lanes, void* const (&operands)[32]) {
    static_assert(sizeof(T) == 4);
    auto value = [&](int lane) {
        return std::bit_cast<T>(uint32_t(static_cast<Lane*>(operands[lane])->value));
    };
    const int first = std::countr_zero(lanes);
    T total = value(first);
    for (int lane = first + 1; lane < 32; ++lane)
        if (lanes >> lane & 1) total = Combine()(total, value(lane));
    for (int lane = first; lane < 32; ++lane)
        if (lanes >> lane & 1) static_cast<Lane*>(operands[lane])->result = std::bit_cast<uint32_t>(total);
}

template <class T, class Combine>
T reduce(const char* name, unsigned int mask, T value, const Where& where) {
    Lane operands{.value = std::bit_cast<uint32_t>(value), .result = 0};
    warp_collective(name, mask, &operands, resolve_reduction<T, Combine>, where);
    return std::bit_cast<T>(operands.result);
}

template <class T>
struct Smaller {
    T operator()(T a, T b) const { return b < a ? b : a; }
};
template <class T>
struct Larger {
    T operator()(T a, T b) const { return a < b ? b : a; }
};
struct Sum {
    unsigned int operator()(unsigned int a, unsigned int b) const {
        return a + b;
    }  // int wraps as on the device
};

}  // namespace sieve::cuda_emulation

#define SIEVE_WHERE const std::source_location& where = std::source_location::current()

inline void __syncthreads(SIEVE_WHERE) {
    sieve::cuda_emulation::block_barrier("__syncthreads", false, where);
}
inline int __syncthreads_or(int predicate, SIEVE_WHERE) {
    return sieve::cuda_emulation::block_barrier("__syncthreads_or", predicate != 0, where).holding != 0;
}
inline int __syncthreads_and(int predicate, SIEVE_WHERE) {
    const auto votes = sieve::cuda_emulation::block_barrier("__syncthreads_and", predicate != 0, where);
    return votes.holding == votes.arrived;
}
inline int __syncthreads_count(int predicate, SIEVE_WHERE) {
    return sieve::cuda_emulation::block_barrier("__syncthreads_count", predicate != 0, where).holding;
}

inline void __syncwarp(unsigned int mask = 0xffffffffu, SIEVE_WHERE) {
    sieve::cuda_emulation::Lane operands{};
    sieve::cuda_emulation::warp_collective("__syncwarp", mask, &operands,
                                           sieve::cuda_emulation::resolve_nothing, where);
}

template <class T>
T __shfl_sync(unsigned int mask, T value, int source, int width = 32, SIEVE_WHERE) {
    const unsigned int lane = sieve::cuda_emulation::lane_id();
    const unsigned int last = sieve::cuda_emulation::segment_end("__shfl_sync", lane, width, where);
    const unsigned int first = last - (width - 1);
    return sieve::cuda_emulation::shuffle("__shfl_sync", mask, value, first + (source & (width - 1)), lane,
                                          where);
}
template <class T>
T __shfl_up_sync(unsigned int mask, T value, unsigned int delta, int width = 32, SIEVE_WHERE) {
    const unsigned int lane = sieve::cuda_emulation::lane_id();
    const unsigned int last = sieve::cuda_emulation::segment_end("__shfl_up_sync", lane, width, where);
    const unsigned int first = last - (width - 1);
    delta &= 31;
    const unsigned int source = lane >= first + delta ? lane - delta : lane;
    return sieve::cuda_emulation::shuffle("__shfl_up_sync", mask, value, source, lane, where);
}
template <class T>
T __shfl_down_sync(unsigned int mask, T value, unsigned int delta, int width = 32, SIEVE_WHERE) {
    const unsigned int lane = sieve::cuda_emulation::lane_id();
    const unsigned int last = sieve::cuda_emulation::segment_end("__shfl_down_sync", lane, width, where);
    delta &= 31;
    const unsigned int source = lane + delta <= last ? lane + delta : lane;
    return sieve::cuda_emulation::shuffle("__shfl_down_sync", mask, value, source, lane, where);
}
template <class T>
T __shfl_xor_sync(unsigned int mask, T value, int lane_mask, int width = 32, SIEVE_WHERE) {
    const unsigned int lane = sieve::cuda_emulation::lane_id();
    const unsigned int last = sieve::cuda_emulation::segment_end("__shfl_xor_sync", lane, width, where);
    const unsigned int partner = lane ^ (lane_mask & 31);
    return sieve::cuda_emulation::shuffle("__shfl_xor_sync", mask, value, partner <= last ? partner : lane,
                                          lane, where);
}

inline unsigned int __ballot_sync(unsigned int mask, int predicate, SIEVE_WHERE) {
    return sieve::cuda_emulation::ballot("__ballot_sync", mask, predicate != 0, where);
}
inline int __any_sync(unsigned int mask, int predicate, SIEVE_WHERE) {
    return sieve::cuda_emulation::ballot("__any_sync", mask, predicate != 0, where) != 0;
}
inline int __all_sync(unsigned int mask, int predicate, SIEVE_WHERE) {
    return sieve::cuda_emulation::ballot("__all_sync", mask, predicate == 0, where) == 0;
}
// Any set of lanes that holds the caller is a legal answer; the smallest one shows who relies on more.
inline unsigned int __activemask() {
    return 1u << sieve::cuda_emulation::lane_id();
}

template <class T>
unsigned int __match_any_sync(unsigned int mask, T value, SIEVE_WHERE) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "__match_any_sync takes 32- and 64-bit values");
    sieve::cuda_emulation::Lane operands{};
    std::memcpy(&operands.value, &value, sizeof(T));
    sieve::cuda_emulation::warp_collective("__match_any_sync", mask, &operands,
                                           sieve::cuda_emulation::resolve_match_any, where);
    return operands.result;
}

inline unsigned int __reduce_add_sync(unsigned int mask, unsigned int value, SIEVE_WHERE) {
    return sieve::cuda_emulation::reduce<unsigned int, sieve::cuda_emulation::Sum>("__reduce_add_sync", mask,
                                                                                   value, where);
}
inline int __reduce_add_sync(unsigned int mask, int value, SIEVE_WHERE) {
    return static_cast<int>(__reduce_add_sync(mask, static_cast<unsigned int>(value), where));
}
inline unsigned int __reduce_min_sync(unsigned int mask, unsigned int value, SIEVE_WHERE) {
    using sieve::cuda_emulation::Smaller;
    return sieve::cuda_emulation::reduce<unsigned int, Smaller<unsigned int>>("__reduce_min_sync", mask,
                                                                              value, where);
}
inline int __reduce_min_sync(unsigned int mask, int value, SIEVE_WHERE) {
    return sieve::cuda_emulation::reduce<int, sieve::cuda_emulation::Smaller<int>>("__reduce_min_sync", mask,
                                                                                   value, where);
}
inline unsigned int __reduce_max_sync(unsigned int mask, unsigned int value, SIEVE_WHERE) {
    using sieve::cuda_emulation::Larger;
    return sieve::cuda_emulation::reduce<unsigned int, Larger<unsigned int>>("__reduce_max_sync", mask, value,
                                                                             where);
}
inline int __reduce_max_sync(unsigned int mask, int value, SIEVE_WHERE) {
    return sieve::cuda_emulation::reduce<int, sieve::cuda_emulation::Larger<int>>("__reduce_max_sync", mask,
                                                                                  value, where);
}
inline unsigned int __reduce_and_sync(unsigned int mask, unsigned int value, SIEVE_WHERE) {
    return sieve::cuda_emulation::reduce<unsigned int, std::bit_and<unsigned int>>("__reduce_and_sync", mask,
                                                                                   value, where);
}
inline unsigned int __reduce_or_sync(unsigned int mask, unsigned int value, SIEVE_WHERE) {
    return sieve::cuda_emulation::reduce<unsigned int, std::bit_or<unsigned int>>("__reduce_or_sync", mask,
                                                                                  value, where);
}

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned int) {}
[[noreturn]] inline void __trap(SIEVE_WHERE) {
    sieve::cuda_emulation::thread_error("__trap()", where);
}

#undef SIEVE_WHERE
