#include "framework/attention/selection/inverse_selection.h"

#include "framework/ops/top_k/top_k.h"
#include "tests/ops/indexer_oracle.h"

using namespace sieve;
using namespace sieve::testing;

DEVICE_TEST_CASE("invert_selection: who selected each key, in ascending order", device) {
    if (device.is_cpu()) return;
    for (const int64_t length : {1, 2, 63, 64, 65, 300, 530})
        for (const int64_t k : {1, 7, 200}) {
            if (is_emulated(device) && length > 300) continue;
            INFO("T " << length << " k " << k);
            const int64_t batch = length > 100 ? 1 : 3, slots = std::min(k, length);
            const Selection selection = top_k_select(random_normal({batch, length, length}, 1), k);
            std::vector<int32_t> offsets, entries;
            for (int64_t b = 0; b < batch; ++b) {
                std::vector<std::vector<int32_t>> of(static_cast<size_t>(length));
                for (int64_t t = 0; t < length; ++t) {
                    const std::vector<int32_t> keys = chosen(selection, b, t);
                    for (size_t i = 0; i < keys.size(); ++i)
                        of[static_cast<size_t>(keys[i])].push_back(
                            static_cast<int32_t>(t * slots + static_cast<int64_t>(i)));
                }
                const size_t begin = entries.size();
                offsets.push_back(0);
                for (const auto& list : of) {
                    entries.insert(entries.end(), list.begin(), list.end());
                    offsets.push_back(static_cast<int32_t>(entries.size() - begin));
                }
                entries.resize(static_cast<size_t>((b + 1) * length * slots));
            }
            const Selection there = on(device, selection);
            const cuda::InverseSelection got = cuda::invert_selection(
                there.indices.data<int32_t>(), there.counts.data<int32_t>(), batch, length, slots);
            CHECK(got.offsets.to_vector<int32_t>() == offsets);
            std::vector<int32_t> got_entries = got.entries.to_vector<int32_t>();
            for (int64_t b = 0; b < batch; ++b)  // behind the last entry of a batch row lies anything
                std::fill(got_entries.begin() + b * length * slots +
                              offsets[static_cast<size_t>((b + 1) * (length + 1) - 1)],
                          got_entries.begin() + (b + 1) * length * slots, 0);
            CHECK(got_entries == entries);
        }
}
