#include "framework/core/precision.h"

namespace sieve {
namespace {

Precision current = Precision::fp32;

}  // namespace

void set_precision(Precision precision) {
    current = precision;
}
Precision precision() {
    return current;
}

}  // namespace sieve
