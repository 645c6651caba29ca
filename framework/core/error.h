// Errors are for people: what was wrong, the values, what to do. The library throws; programs print and exit.
#pragma once

#include <stdexcept>
#include <string>

namespace sieve {

// The value of each kind is the exit code of a program that ends with it.
enum class ErrorKind { failure = 1, usage = 2, bad_file = 3, diverged = 4, out_of_memory = 5 };

class Error : public std::runtime_error {
  public:
    Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
    ErrorKind kind() const { return kind_; }

  private:
    ErrorKind kind_;
};

// Throws Error(kind::failure): a caller's mistake inside the program (shapes, dtypes, states).
[[noreturn]] void fail(const std::string& message);
[[noreturn]] void fail_usage(const std::string& message);     // a wrong flag, config value or combination
[[noreturn]] void fail_bad_file(const std::string& message);  // an input or output file that cannot be used

}  // namespace sieve
