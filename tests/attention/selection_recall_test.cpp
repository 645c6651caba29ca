#include "framework/attention/selection/selection_recall.h"

#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

Selection selection_of(const std::vector<int32_t>& indices) {
    return {Tensor::from(indices, {1, 4, 2}), Tensor::from(std::vector<int32_t>{1, 2, 2, 2}, {1, 4})};
}

}  // namespace

TEST_CASE("selection_recall: shared keys of the rows that have a choice") {
    const Selection a = selection_of({0, 0, 0, 1, 0, 2, 1, 3});
    CHECK(selection_recall(a, a) == 1);
    CHECK(selection_recall(a, selection_of({0, 0, 0, 1, 1, 2, 1, 3})) == 0.75);
    CHECK(selection_recall(a, selection_of({0, 0, 0, 1, 1, 2, 0, 2})) == 0.25);
    const Selection none{Tensor::zeros({1, 2, 2}, DType::int32), Tensor::zeros({1, 2}, DType::int32)};
    CHECK(selection_recall(none, none) == 1);
    check_error("selection_recall: selections are [1,4,2] and [1,2,2], want one shape",
                [&] { selection_recall(a, none); });
}
