#pragma once

#include <cstdint>

namespace sieve {

template <class T>
struct AddForward {
    const T* a;  // [count]
    const T* b;  // [count]
    T* y;        // [count]
    int64_t count;
};

namespace cpu {
template <class T>
void add_forward(const AddForward<T>& args);
}  // namespace cpu

}  // namespace sieve
