#include "framework/attention/selection/check_selection.h"

#include <algorithm>

namespace sieve {

Selection empty_selection(const char* op, int64_t batch, int64_t queries, int64_t keys, int64_t top_k,
                          Device device) {
    if (top_k < 1) fail(std::string(op) + ": top_k is " + std::to_string(top_k) + ", want at least 1");
    const int64_t slots = std::min(top_k, keys);
    return {Tensor::empty({batch, queries, slots}, DType::int32, device),
            Tensor::empty({batch, queries}, DType::int32, device)};
}

void check_no_nan(const char* op, int64_t bad_row, int64_t length) {
    if (bad_row < 0) return;
    throw Error(ErrorKind::diverged, std::string(op) + ": a score of batch row " +
                                         std::to_string(bad_row / length) + ", query " +
                                         std::to_string(bad_row % length) + " is NaN");
}

namespace {

// `row` is that of query t of batch row b.
void check_row(const char* op, const SelectedKeys& keys, int64_t b, int64_t t, int64_t row) {
    const int64_t count = keys.counts[row], most = std::min(keys.slots, t + 1);
    const int32_t* selected = keys.indices + row * keys.slots;
    const auto refuse = [&](const std::string& what, int64_t largest) {
        fail(std::string(op) + ": row [" + std::to_string(b) + "," + std::to_string(t) + "] selects " + what +
             ", want 0 to " + std::to_string(largest));
    };
    if (count < 0 || count > most) refuse(std::to_string(count) + " keys", most);
    // The usual case, in one loop that a compiler vectorises.
    bool ascending = true;
    for (int64_t i = 1; i < count; ++i) ascending &= selected[i - 1] < selected[i];
    if (count == 0 || (ascending && selected[0] >= 0 && selected[count - 1] <= t)) return;
    for (int64_t i = 0; i < count; ++i)
        if (selected[i] < 0 || selected[i] > t) refuse("key " + std::to_string(selected[i]), t);
    for (int64_t i = 1; i < count; ++i)
        if (selected[i - 1] >= selected[i])
            fail(std::string(op) + ": row [" + std::to_string(b) + "," + std::to_string(t) +
                 "] selects key " + std::to_string(selected[i]) + " after key " +
                 std::to_string(selected[i - 1]) + ", want them ascending");
}

}  // namespace

void check_selection(const char* op, const Selection& selection, const FirstOperand& q, int64_t queries,
                     int64_t length) {
    const int64_t batch = q.tensor.dim(0);
    check_rank(op, "the selection's indices", selection.indices, 3);
    const std::string why = "a row for each query";
    check_shape(op, "the selection's indices", selection.indices,
                Shape{batch, queries, selection.indices.dim(2)}, why);
    check_shape(op, "the selection's counts", selection.counts, Shape{batch, queries}, why);
    check_operand(op, "the selection's indices", selection.indices, q, DType::int32);
    check_operand(op, "the selection's counts", selection.counts, q, DType::int32);
    if (!q.tensor.device().is_cpu()) return;
    const SelectedKeys keys = selected_keys(selection);
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t i = 0; i < queries; ++i) check_row(op, keys, b, length - queries + i, b * queries + i);
}

}  // namespace sieve
