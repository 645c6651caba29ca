// Numbers in files, which are little-endian in every format that this folder knows.
#pragma once

#include <bit>
#include <cstring>
#include <string>
#include <string_view>

namespace sieve {

static_assert(std::endian::native == std::endian::little,
              "tensors are written to files as they lie in memory");

template <class T>
void append_number(std::string& bytes, T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes.append(raw, sizeof(T));
}

// The number at bytes[at...]; the caller has checked that it lies inside.
template <class T>
T number_at(std::string_view bytes, size_t at) {
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof(T));
    return value;
}

}  // namespace sieve
