// The tokens of a text, one after the other: in memory, or in a file as memory, of which only what is being read needs
// to be in the machine's memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "framework/io/mapped_file.h"

namespace sieve {

// An array that grows where it lies, as far as the system can do that: a copy of it would double what the largest
// array of a program takes.
class TokenBuffer {
  public:
    // Throws an out-of-memory error before the system does.
    void append(std::span<const int32_t> tokens);
    std::span<const int32_t> tokens() const { return {data_.get(), size_}; }

  private:
    struct Free {
        void operator()(int32_t* data) const { std::free(data); }
    };
    std::unique_ptr<int32_t, Free> data_;
    size_t size_ = 0, capacity_ = 0;
};

class TokenStore {
  public:
    explicit TokenStore(TokenBuffer tokens) : buffer_(std::move(tokens)), tokens_(buffer_.tokens()) {}
    explicit TokenStore(std::span<const int32_t> tokens);  // a copy
    // `count` of them, from this byte of the file on.
    TokenStore(std::unique_ptr<const MappedFile> file, size_t offset, size_t count);

    std::span<const int32_t> tokens() const { return tokens_; }
    // After reading: throws Error(bad_file) when what was read was no longer in the file.
    void check_readable() const {
        if (file_ && file_->is_lost()) file_->check_unchanged();
    }

  private:
    TokenBuffer buffer_;
    std::unique_ptr<const MappedFile> file_;
    std::span<const int32_t> tokens_;
};

}  // namespace sieve
