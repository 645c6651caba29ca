// Errors are for people: what was wrong, the values, what to do. The library throws; programs print and exit.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "framework/core/size_kind.h"

namespace sieve {

// The value of each kind is the exit code of a program that ends with it.
enum class ErrorKind { failure = 1, usage = 2, bad_file = 3, diverged = 4, out_of_memory = 5 };

class Error : public std::runtime_error {
  public:
    // what() is one_line(message).
    Error(ErrorKind kind, const std::string& message, std::vector<SizeKind> lower = {});
    ErrorKind kind() const { return kind_; }
    // The sizes that the message advises to lower, the first to try first.
    const std::vector<SizeKind>& lower() const { return lower_; }

  private:
    ErrorKind kind_;
    std::vector<SizeKind> lower_;
};

// Throws Error(kind::failure): a caller's mistake inside the program (shapes, dtypes, states).
[[noreturn]] void fail(const std::string& message);
[[noreturn]] void fail_usage(const std::string& message);     // a wrong flag, config value or combination
[[noreturn]] void fail_bad_file(const std::string& message);  // an input or output file that cannot be used

// A message as it may be shown: one line of at most 2000 bytes. Control characters, which names in a hostile
// file may hold, become \xHH; what is too long loses its middle.
std::string one_line(std::string_view message);
// A value or a name for a message: itself, or the beginning of a long one: "abc... (100000 bytes)".
std::string shortened(std::string_view text);

std::string enumerated(const std::vector<std::string>& names, const char* last);  // "a, b LAST c"
std::string one_of(const std::vector<std::string>& choices);                      // "a, b or c"
std::string one_of(const std::vector<SizeKind>& sizes);  // "the batch or the vocabulary"

}  // namespace sieve
