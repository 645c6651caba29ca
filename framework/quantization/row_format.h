// The number formats in which rows are kept in few bits: ops/quantize_rows.
#pragma once

namespace sieve {

enum class RowFormat { fp8, int8 };

}  // namespace sieve
