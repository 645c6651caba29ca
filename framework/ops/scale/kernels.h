#pragma once

#include <cstdint>

namespace sieve {

template <class T>
struct ScaleForward {
    const T* x;  // [count]
    T* y;        // [count]
    int64_t count;
    double factor;
};

namespace cpu {
template <class T>
void scale_forward(const ScaleForward<T>& args);
}  // namespace cpu

}  // namespace sieve
