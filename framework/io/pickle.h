// The part of Python's pickle format (protocol 2) that PyTorch checkpoints use, read as plain data: nothing
// is imported and nothing is executed. Opcodes and globals are allow-listed; anything else is refused by
// name.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "framework/io/memory_budget.h"

namespace sieve {

struct PickleValue {
    enum class Kind { none, boolean, integer, real, string, list, tuple, dict, global, storage, tensor };
    Kind kind = Kind::none;
    int64_t integer = 0;  // of a boolean or integer
    double real = 0;
    std::string_view text;                  // of a string; a global's dotted name
    std::vector<const PickleValue*> items;  // of a list or tuple; a dict's keys and values in turn;
                                            // a storage: {"storage", its type, key, location, element count};
                                            // a tensor: {storage, offset, sizes, strides}
};

const char* name_of(PickleValue::Kind kind);

// Values refer to each other freely (a pickle can even hold cycles), so the pickle owns them all.
struct Pickle {
    std::deque<PickleValue> values;
    const PickleValue* root = nullptr;
};

// What it returns points into `bytes`, and stays within the budget. Throws Error(bad_file), with a sentence
// that begins with `path`.
Pickle read_pickle(std::string_view bytes, const std::string& path, MemoryBudget& budget);

}  // namespace sieve
