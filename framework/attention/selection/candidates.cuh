// The best keys of one query out of a stream of scores, held by one warp: what indexer_select, top_k_select
// and indexer_quality choose with.
//
// Scores are offered 32 at a time with ascending indices. Those that can still be among the best are appended
// to a list in device memory. When the list is full, a bar is found that at least `wanted` of the listed
// scores reach, the others are dropped, and from then on a score must lie above the bar: it loses ties to
// lower indices. The list stays in ascending order of index, so that what is left at the end is the selection
// as it is written.
//
//   order      scores become unsigned integers in the order of the numbers; -0 is +0, NaN comes last of all
//   the bar    radix selection: 256 bins (in shared memory) over the range of the list, and again within the
//              bin that holds the wanted-th key, until a bin's lower end leaves few enough or all its keys
//              are equal
//   memory     capacity x (key, index) a row, about 2 wanted; no random access beside the bins
//
// A stream of n scores in random order appends about wanted (1 + ln(n / wanted)) of them and is cut about as
// many times over wanted; each cut reads the keys 2 to 3 times. Deterministic: bins count, and counts do not
// depend on the order of counting.
#pragma once

#include <algorithm>
#include <type_traits>

#include "framework/core/cuda/launch.cuh"
#include "framework/core/cuda/reduce.cuh"
#include "framework/core/tensor.h"

namespace sieve::cuda {

constexpr int radix_bins = 256;

template <class T>
using OrderKey = std::conditional_t<sizeof(T) == 4, uint32_t, unsigned long long>;

// At least 1, so that 0 is a bar that everything passes.
__device__ inline uint32_t order_key(float x) {
    if (x != x) return 1;
    const uint32_t bits = __float_as_uint(x + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ inline unsigned long long order_key(double x) {
    if (x != x) return 1;
    const unsigned long long bits = static_cast<unsigned long long>(__double_as_longlong(x + 0.0)),
                             sign = 1ull << 63;
    return bits & sign ? ~bits : bits | sign;
}

__device__ inline int bit_width(uint32_t x) {
    return 32 - __clz(static_cast<int>(x));
}
__device__ inline int bit_width(unsigned long long x) {
    return 64 - __clzll(static_cast<long long>(x));
}

struct Min {
    template <class T>
    __device__ T operator()(T a, T b) const {
        return b < a ? b : a;
    }
};

// What a row's list is between two visits of its warp.
template <class T>
struct CandidateState {
    OrderKey<T> bar;
    int count;
};

// Where the lists of `rows` rows lie.
template <class T>
struct CandidateLists {
    OrderKey<T>* keys;  // [rows, capacity]
    int32_t* indices;   // [rows, capacity]
    int capacity, wanted;
};

template <class T>
class Candidates {
  public:
    using Key = OrderKey<T>;

    __device__ Candidates(const CandidateLists<T>& lists, int64_t row, int* bins,
                          const CandidateState<T>& state)
        : keys_(lists.keys + row * lists.capacity),
          indices_(lists.indices + row * lists.capacity),
          bins_(bins),
          capacity_(lists.capacity),
          wanted_(lists.wanted),
          lane_(threadIdx.x % warp_size),
          bar_(state.bar),
          count_(state.count) {}

    __device__ CandidateState<T> state() const { return {bar_, count_}; }

    // One score a lane; lane i's index is lower than lane i + 1's, and higher than all indices offered
    // before.
    __device__ void offer(T score, int32_t index, bool there) {
        const Key key = order_key(score);
        unsigned passing = __ballot_sync(whole_warp, there && key > bar_);
        if (passing == 0) return;
        if (count_ + __popc(passing) > capacity_) {
            cut(wanted_ + (capacity_ - wanted_) / 4, [this](int at, Key kept, int32_t kept_index) {
                keys_[at] = kept;
                indices_[at] = kept_index;
            });
            passing = __ballot_sync(whole_warp, there && key > bar_);
        }
        if (passing >> lane_ & 1) {
            const int at = count_ + __popc(passing & below());
            keys_[at] = key;
            indices_[at] = index;
        }
        count_ += __popc(passing);
    }

    // Writes the indices of the best `wanted`, ascending. At least so many were offered.
    __device__ void write(int32_t* out) {
        cut(wanted_, [out](int at, Key, int32_t index) { out[at] = index; });
    }

  private:
    static constexpr int keys_a_load = 16 / sizeof(Key);
    struct alignas(16) Load {
        Key key[keys_a_load];
    };

    __device__ unsigned below() const { return (1u << lane_) - 1; }

    // All keys of the list, in any order.
    template <class F>
    __device__ void for_each_key(const F& f) const {
#pragma unroll 4
        for (int first = lane_ * keys_a_load; first < count_; first += warp_size * keys_a_load) {
            const Load load = *reinterpret_cast<const Load*>(keys_ + first);
#pragma unroll
            for (int i = 0; i < keys_a_load; ++i)
                if (first + i < count_) f(load.key[i]);
        }
    }

    // Raises the bar to a key that at least `wanted` of the list reach, and at most `most` when keys do not
    // tie. Of the keys that equal the bar the first `ties` stay.
    __device__ int raise_bar(int most) {
        Key low = ~Key(0), high = 0;
        for_each_key([&](Key key) {
            low = Min()(low, key);
            high = Max()(high, key);
        });
        low = warp_reduce(low, Min());
        high = warp_reduce(high, Max());
        int above = 0;  // how many keys lie above `high`
        while (low < high) {
            const int width = bit_width(high - low), shift = width > 8 ? width - 8 : 0;
            fill_bins(low, high, shift);
            const Bin bin = bin_of_rank(wanted_ - above);
            low += static_cast<Key>(bin.index) << shift;
            const Key last = (Key(1) << shift) - 1;
            if (high - low > last) high = low + last;
            if (above + bin.above + bin.count <= most) {
                bar_ = low;
                return count_;
            }
            above += bin.above;
        }
        bar_ = low;
        return wanted_ - above;
    }

    // Counts the keys of [low, high] in bins of 2^shift.
    __device__ void fill_bins(Key low, Key high, int shift) {
        for (int i = lane_; i < radix_bins; i += warp_size) bins_[i] = 0;
        __syncwarp();
        for_each_key([&](Key key) {
            if (key >= low && key <= high) atomicAdd(&bins_[static_cast<int>((key - low) >> shift)], 1);
        });
        __syncwarp();
    }

    struct Bin {
        int index, count, above;  // `above`: how many keys lie in higher bins
    };

    // The bin of the rank-th highest key. Each lane looks after 8 bins.
    __device__ Bin bin_of_rank(int rank) {
        constexpr int each = radix_bins / warp_size;
        int own = 0;
        for (int i = 0; i < each; ++i) own += bins_[lane_ * each + i];
        int reached = own;  // in this lane's bins and all higher ones
        for (int offset = 1; offset < warp_size; offset *= 2) {
            const int higher = __shfl_down_sync(whole_warp, reached, offset);
            if (lane_ + offset < warp_size) reached += higher;
        }
        const bool here = reached >= rank && reached - own < rank;
        Bin bin{lane_ * each + each - 1, 0, reached - own};
        for (int i = each - 1; here && i >= 0; --i) {
            bin.index = lane_ * each + i;
            bin.count = bins_[bin.index];
            if (bin.above + bin.count >= rank) break;
            bin.above += bin.count;
        }
        const int lane = __ffs(static_cast<int>(__ballot_sync(whole_warp, here))) - 1;
        __syncwarp();
        return {__shfl_sync(whole_warp, bin.index, lane), __shfl_sync(whole_warp, bin.count, lane),
                __shfl_sync(whole_warp, bin.above, lane)};
    }

    // Raises the bar and calls keep(position, key, index) for what stays, in ascending order of index. A list
    // is never written ahead of where it is read.
    template <class Keep>
    __device__ void cut(int most, const Keep& keep) {
        __syncwarp();
        int ties = count_ > wanted_ ? raise_bar(most) : count_, kept = 0;
        for (int first = 0; first < count_; first += warp_size) {
            const bool there = first + lane_ < count_;
            const Key key = there ? keys_[first + lane_] : 0;
            const int32_t index = there ? indices_[first + lane_] : 0;
            const unsigned tied = __ballot_sync(whole_warp, there && key == bar_);
            const bool stays = there && (key > bar_ || (key == bar_ && __popc(tied & below()) < ties));
            const unsigned staying = __ballot_sync(whole_warp, stays);
            __syncwarp();
            if (stays) keep(kept + __popc(staying & below()), key, index);
            kept += __popc(staying);
            ties -= __popc(tied);
        }
        count_ = kept;
        __syncwarp();
    }

    Key* keys_;
    int32_t* indices_;
    int* bins_;
    int capacity_, wanted_, lane_;
    Key bar_;
    int count_;
};

// The row of a query that selects all its `count` keys, by one warp.
__device__ inline void select_all_keys(int32_t* indices, int64_t count, int64_t slots) {
    for (int64_t i = threadIdx.x % warp_size; i < slots; i += warp_size)
        indices[i] = i < count ? static_cast<int32_t>(i) : 0;
}

// Device memory for the lists of `rows` rows that want `wanted` keys each.
template <class T>
struct CandidateMemory {
    Tensor keys, indices;
    CandidateLists<T> lists;
};

// A cut must leave room for another 32, and be rare.
inline int64_t candidate_capacity(int64_t wanted) {
    return (std::max(2 * wanted, wanted + 96) + 127) / 128 * 128;
}

template <class T>
CandidateMemory<T> candidate_memory(int64_t rows, int64_t wanted) {
    const int64_t capacity = candidate_capacity(wanted);
    CandidateMemory<T> memory{Tensor::empty({rows, capacity}, dtype_of<T>, device),
                              Tensor::empty({rows, capacity}, DType::int32, device),
                              {}};
    memory.lists = {.keys = static_cast<OrderKey<T>*>(memory.keys.raw()),
                    .indices = memory.indices.template data<int32_t>(),
                    .capacity = static_cast<int>(capacity),
                    .wanted = static_cast<int>(wanted)};
    return memory;
}

inline int64_t multiprocessors() {
    static const int64_t count = device_info().multiprocessors;
    return count;
}

}  // namespace sieve::cuda
