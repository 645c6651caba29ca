// Element types. Scores and accumulations are float32 or wider; int32 holds tokens and indices.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sieve {

enum class DType : uint8_t { float32, float64, int32, int64, uint8 };

constexpr size_t size_of(DType dtype) {
    switch (dtype) {
        case DType::float32:
            return 4;
        case DType::float64:
            return 8;
        case DType::int32:
            return 4;
        case DType::int64:
            return 8;
        case DType::uint8:
            return 1;
    }
    return 0;
}

constexpr const char* name_of(DType dtype) {
    switch (dtype) {
        case DType::float32:
            return "float32";
        case DType::float64:
            return "float64";
        case DType::int32:
            return "int32";
        case DType::int64:
            return "int64";
        case DType::uint8:
            return "uint8";
    }
    return "?";
}

constexpr bool is_floating(DType dtype) {
    return dtype == DType::float32 || dtype == DType::float64;
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
    static constexpr DType value = DType::float32;
};
template <>
struct DTypeOf<double> {
    static constexpr DType value = DType::float64;
};
template <>
struct DTypeOf<int32_t> {
    static constexpr DType value = DType::int32;
};
template <>
struct DTypeOf<int64_t> {
    static constexpr DType value = DType::int64;
};
template <>
struct DTypeOf<uint8_t> {
    static constexpr DType value = DType::uint8;
};

template <class T>
constexpr DType dtype_of = DTypeOf<T>::value;

}  // namespace sieve
