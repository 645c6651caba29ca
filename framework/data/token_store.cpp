#include "framework/data/token_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "framework/core/available_memory.h"
#include "framework/core/error.h"

namespace sieve {

void TokenBuffer::append(std::span<const int32_t> tokens) {
    if (size_ + tokens.size() > capacity_) {
        const size_t more = std::max({tokens.size(), capacity_ / 2, size_t{1} << 18}) * sizeof(int32_t);
        const size_t bytes = capacity_ * sizeof(int32_t) + more;
        void* larger =
            more > static_cast<size_t>(available_memory()) ? nullptr : std::realloc(data_.get(), bytes);
        if (!larger)
            throw Error(
                ErrorKind::out_of_memory,
                fmt::format("out of memory for {} tokens and more; give a folder for the cache, where they "
                            "need no memory, or lower the amount of text",
                            size_),
                {SizeKind::text});
        static_cast<void>(data_.release());
        data_.reset(static_cast<int32_t*>(larger));
        capacity_ = bytes / sizeof(int32_t);
    }
    std::copy(tokens.begin(), tokens.end(), data_.get() + size_);
    size_ += tokens.size();
}

TokenStore::TokenStore(std::span<const int32_t> tokens) {
    buffer_.append(tokens);
    tokens_ = buffer_.tokens();
}

TokenStore::TokenStore(std::unique_ptr<const MappedFile> file, size_t offset, size_t count)
    : file_(std::move(file)),
      tokens_(reinterpret_cast<const int32_t*>(file_->bytes().data() + offset), count) {}

}  // namespace sieve
