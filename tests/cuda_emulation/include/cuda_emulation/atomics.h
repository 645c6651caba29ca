// Atomics: fibers hand over only at barriers and collectives, so that a plain read and write is atomic here.
#pragma once

#include <concepts>
#include <type_traits>

namespace sieve::cuda_emulation {

template <class T>
concept AtomicInteger =
    std::same_as<T, int> || std::same_as<T, unsigned int> || std::same_as<T, unsigned long long>;
template <class T>
concept AtomicNumber = AtomicInteger<T> || std::same_as<T, float> || std::same_as<T, double>;

template <class T>
T exchange(T* address, T value) {
    const T old = *address;
    *address = value;
    return old;
}

}  // namespace sieve::cuda_emulation

// The value's type is not deduced: atomicAdd(&total, 1) works for every type of total, as it does on the
// device.
template <sieve::cuda_emulation::AtomicNumber T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
    if constexpr (std::same_as<T, int>)  // wraps, as on the device
        return sieve::cuda_emulation::exchange(address,
                                               static_cast<int>(unsigned(*address) + unsigned(value)));
    else
        return sieve::cuda_emulation::exchange(address, *address + value);
}
template <sieve::cuda_emulation::AtomicInteger T>
T atomicMax(T* address, std::type_identity_t<T> value) {
    return sieve::cuda_emulation::exchange(address, *address < value ? value : *address);
}
inline long long atomicMax(long long* address, long long value) {
    return sieve::cuda_emulation::exchange(address, *address < value ? value : *address);
}
template <sieve::cuda_emulation::AtomicInteger T>
T atomicMin(T* address, std::type_identity_t<T> value) {
    return sieve::cuda_emulation::exchange(address, value < *address ? value : *address);
}
inline long long atomicMin(long long* address, long long value) {
    return sieve::cuda_emulation::exchange(address, value < *address ? value : *address);
}
template <sieve::cuda_emulation::AtomicInteger T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
    return sieve::cuda_emulation::exchange(address, *address == expected ? value : *address);
}
template <class T>
requires sieve::cuda_emulation::AtomicInteger<T> || std::same_as<T, float> T
atomicExch(T* address, std::type_identity_t<T> value) {
    return sieve::cuda_emulation::exchange(address, value);
}
template <sieve::cuda_emulation::AtomicInteger T>
T atomicOr(T* address, std::type_identity_t<T> value) {
    return sieve::cuda_emulation::exchange(address, *address | value);
}
template <sieve::cuda_emulation::AtomicInteger T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
    return sieve::cuda_emulation::exchange(address, *address & value);
}
