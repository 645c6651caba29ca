#include "framework/attention/selection/selection_recall.h"

#include <cmath>

#include "framework/attention/selection/common_keys.h"
#include "framework/core/error.h"

namespace sieve {
namespace {

struct Keys {
    const int32_t* first;
    int64_t count;
};

// A selection's rows, on the host.
class HostRows {
  public:
    explicit HostRows(const Selection& selection)
        : indices_(selection.indices.to(Device{})), counts_(selection.counts.to(Device{})) {}
    int64_t length() const { return counts_.dim(1); }
    Keys row(int64_t row) const {
        return {indices_.data<int32_t>() + row * indices_.dim(2), counts_.data<int32_t>()[row]};
    }

    // The mean of share(row, its keys) over the rows that leave a key out.
    template <class Share>
    double mean_over_choices(const Share& share) const {
        double sum = 0, choices = 0;
        for (int64_t at = 0; at < counts_.numel(); ++at) {
            if (row(at).count > at % length()) continue;
            sum += share(at, row(at));
            choices += 1;
        }
        return sum / choices;
    }

  private:
    Tensor indices_, counts_;
};

// The share of the reference's keys that are among `keys`.
double found(const Keys& reference, const Keys& keys) {
    return static_cast<double>(common_keys(reference.first, reference.count, keys.first, keys.count)) /
           static_cast<double>(reference.count);
}

}  // namespace

double selection_recall(const Selection& reference, const Selection& other) {
    if (reference.counts.shape() != other.counts.shape())
        fail("selection_recall: selections are of " + to_string(reference.counts.shape()) + " and " +
             to_string(other.counts.shape()) + " queries, want one shape");
    const HostRows wanted(reference);
    return HostRows(other).mean_over_choices(
        [&](int64_t row, const Keys& keys) { return found(wanted.row(row), keys); });
}

double chance_recall(const Selection& selection) {
    const HostRows rows(selection);
    return rows.mean_over_choices([&](int64_t row, const Keys& keys) {
        return static_cast<double>(keys.count) / static_cast<double>(row % rows.length() + 1);
    });
}

double successive_recall(const Selection& selection) {
    const HostRows rows(selection);
    // A row with a choice has a row before it: row 0 has one key and selects it.
    return rows.mean_over_choices(
        [&](int64_t row, const Keys& keys) { return found(rows.row(row - 1), keys); });
}

double first_key_share(const Selection& selection) {
    return HostRows(selection).mean_over_choices(
        [](int64_t, const Keys& keys) { return keys.count > 0 && keys.first[0] == 0 ? 1.0 : 0.0; });
}

}  // namespace sieve
