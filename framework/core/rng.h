// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a counter-based
// generator. The i-th number of a stream is a pure function of (seed, stream, i), so any thread, device or
// resumed run computes the same bits. Header only and free of the standard library's types in its arithmetic,
// so that CUDA kernels share this very code.
#pragma once

#include <math.h>

#include <cstdint>

#if defined(__CUDACC__)
#define SIEVE_HOST_DEVICE __host__ __device__
#else
#define SIEVE_HOST_DEVICE
#endif

namespace sieve {

struct Philox4 {
    uint32_t v[4];
};

// Names one stream of random numbers.
struct RngKey {
    uint64_t seed = 0;
    uint64_t stream = 0;
    // CUDA kernels add this number, which lies on the device, to `stream`: a recorded graph draws other
    // numbers each time it runs. Null: nothing is added.
    const uint64_t* stream_offset = nullptr;
};

// The key that a kernel draws from.
SIEVE_HOST_DEVICE inline RngKey resolved(RngKey key) {
    return {key.seed, key.stream + (key.stream_offset ? *key.stream_offset : 0)};
}

// The four 32-bit numbers of block `index` of the stream.
SIEVE_HOST_DEVICE inline Philox4 philox(RngKey key, uint64_t index) {
    uint32_t c0 = static_cast<uint32_t>(index), c1 = static_cast<uint32_t>(index >> 32);
    uint32_t c2 = static_cast<uint32_t>(key.stream), c3 = static_cast<uint32_t>(key.stream >> 32);
    uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t{0xD2511F53u} * c0;
        const uint64_t p1 = uint64_t{0xCD9E8D57u} * c2;
        const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
        const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
        c1 = static_cast<uint32_t>(p1);
        c3 = static_cast<uint32_t>(p0);
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// [0, 1) with 24 random bits, exact in float.
SIEVE_HOST_DEVICE inline float uniform_from_bits(uint32_t bits) {
    return static_cast<float>(bits >> 8) * (1.0f / 16777216.0f);
}

// Hands out a fresh stream per random op; its whole state is (seed, next_stream), which checkpoints store.
class Generator {
  public:
    explicit Generator(uint64_t seed = 0, uint64_t next_stream = 0, const uint64_t* stream_offset = nullptr)
        : seed_(seed), next_stream_(next_stream), stream_offset_(stream_offset) {}
    RngKey next_key() { return {seed_, next_stream_++, stream_offset_}; }
    uint64_t seed() const { return seed_; }
    uint64_t next_stream() const { return next_stream_; }

  private:
    uint64_t seed_;
    uint64_t next_stream_;
    const uint64_t* stream_offset_;  // RngKey::stream_offset of its keys
};

// The i-th standard normal number of a stream (Box-Muller in float64 on two numbers of block i).
SIEVE_HOST_DEVICE inline double normal_at(RngKey key, uint64_t index) {
    const Philox4 r = philox(key, index);
    const double u = (static_cast<double>(r.v[0]) + 0.5) / 4294967296.0;
    const double v = static_cast<double>(r.v[1]) / 4294967296.0;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

}  // namespace sieve
