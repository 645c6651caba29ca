// Special numbers as constants: device code may not call std::numeric_limits.
#pragma once

#include <limits>

namespace sieve::cuda {

template <class T>
constexpr T infinity = std::numeric_limits<T>::infinity();
template <class T>
constexpr T not_a_number = std::numeric_limits<T>::quiet_NaN();
template <class T>
constexpr T lowest = std::numeric_limits<T>::lowest();  // finite
template <class T>
constexpr T highest = std::numeric_limits<T>::max();  // finite

}  // namespace sieve::cuda
