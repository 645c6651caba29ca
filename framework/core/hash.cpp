#include "framework/core/hash.h"

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

namespace sieve {

struct ContentHash::State {
    XXH3_state_t xxh3;
};

ContentHash::ContentHash() : state_(std::make_unique<State>()) {
    XXH3_64bits_reset(&state_->xxh3);
}

ContentHash::~ContentHash() = default;

ContentHash& ContentHash::add(std::string_view bytes) {
    return add(static_cast<int64_t>(bytes.size())).extend(bytes);
}

ContentHash& ContentHash::add(int64_t number) {
    XXH3_64bits_update(&state_->xxh3, &number, sizeof number);
    return *this;
}

ContentHash& ContentHash::extend(std::string_view bytes) {
    XXH3_64bits_update(&state_->xxh3, bytes.data(), bytes.size());
    return *this;
}

uint64_t ContentHash::value() const {
    return XXH3_64bits_digest(&state_->xxh3);
}

std::string to_hex(uint64_t value) {
    return fmt::format("{:016x}", value);
}

}  // namespace sieve
