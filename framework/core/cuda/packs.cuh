// Packs: neighbouring elements that one instruction of up to 16 bytes moves.
#pragma once

#include <cstdint>

#include "framework/core/cuda/launch.cuh"

namespace sieve::cuda {

template <class T, int n>
struct alignas(n * sizeof(T) < 16 ? n * sizeof(T) : 16) Pack {
    T at[n];
};

// How many elements make 16 bytes.
template <class T>
constexpr int full_pack = 16 / static_cast<int>(sizeof(T));

template <class T>
using FullPack = Pack<T, full_pack<T>>;

template <int n, class T>
__device__ inline Pack<T, n> load_pack(const T* from) {
    return *reinterpret_cast<const Pack<T, n>*>(from);
}

template <class T, int n>
__device__ inline void store_pack(T* to, const Pack<T, n>& pack) {
    *reinterpret_cast<Pack<T, n>*>(to) = pack;
}

// True when full packs may be moved at each of the pointers. Null pointers do not stand in the way.
template <class... Pointers>
bool start_packs(const Pointers*... pointers) {
    return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

}  // namespace sieve::cuda
