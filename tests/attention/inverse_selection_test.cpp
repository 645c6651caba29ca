#include "framework/attention/selection/inverse_selection.h"

#include "framework/attention/selection/check_selection.h"
#include "framework/ops/top_k/top_k.h"
#include "tests/ops/indexer_oracle.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

struct Lists {
    std::vector<int32_t> offsets;               // [B,T+1]
    std::vector<std::vector<int32_t>> entries;  // of each batch row
};

// The definition, query by query.
Lists lists_of(const Selection& selection, int64_t first_row) {
    const int64_t batch = selection.indices.dim(0), length = selection.indices.dim(1),
                  slots = selection.indices.dim(2);
    Lists lists;
    for (int64_t b = 0; b < batch; ++b) {
        std::vector<std::vector<int32_t>> of(static_cast<size_t>(length));
        for (int64_t t = first_row; t < length; ++t) {
            const std::vector<int32_t> keys = chosen(selection, b, t);
            for (size_t i = 0; i < keys.size(); ++i)
                of[static_cast<size_t>(keys[i])].push_back(
                    static_cast<int32_t>(t * slots + static_cast<int64_t>(i)));
        }
        std::vector<int32_t>& entries = lists.entries.emplace_back();
        lists.offsets.push_back(0);
        for (const auto& list : of) {
            entries.insert(entries.end(), list.begin(), list.end());
            lists.offsets.push_back(static_cast<int32_t>(entries.size()));
        }
    }
    return lists;
}

}  // namespace

DEVICE_TEST_CASE("invert_selection: who selected each key, in ascending order", device) {
    if (device.is_cpu()) return;
    for (const int64_t length : {1, 2, 63, 64, 65, 300, 530})
        for (const int64_t k : {1, 7, 200})
            for (const int64_t first_row : {int64_t{0}, length / 2, length - 1}) {
                if (is_emulated(device) && length > 300) continue;
                INFO("T " << length << " k " << k << " from row " << first_row);
                const int64_t batch = length > 100 ? 1 : 3, slots = std::min(k, length);
                const Selection selection = top_k_select(random_normal({batch, length, length}, 1), k);
                const Selection there = on(device, selection);
                const cuda::InverseSelection got =
                    cuda::invert_selection(selected_keys(there), batch, length, first_row);
                const Lists want = lists_of(selection, first_row);
                CHECK(got.offsets.to_vector<int32_t>() == want.offsets);
                const std::vector<int32_t> entries = got.entries.to_vector<int32_t>();
                const int64_t room = (length - first_row) * slots;
                for (int64_t b = 0; b < batch; ++b) {  // behind the last entry of a batch row lies anything
                    const auto& own = want.entries[static_cast<size_t>(b)];
                    CHECK(std::vector<int32_t>(
                              entries.begin() + b * room,
                              entries.begin() + b * room + static_cast<int64_t>(own.size())) == own);
                }
            }
}
