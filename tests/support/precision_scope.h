// The precision of matrix products for as long as a test wants it.
#pragma once

#include "framework/core/precision.h"

namespace sieve::testing {

class PrecisionScope {
  public:
    explicit PrecisionScope(Precision precision) : before_(sieve::precision()) { set_precision(precision); }
    ~PrecisionScope() { set_precision(before_); }
    PrecisionScope(const PrecisionScope&) = delete;
    PrecisionScope& operator=(const PrecisionScope&) = delete;

  private:
    Precision before_;
};

}  // namespace sieve::testing
