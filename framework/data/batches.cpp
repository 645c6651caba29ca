#include "framework/data/batches.h"

#include <fmt/format.h>

#include <algorithm>

#include "framework/core/error.h"

namespace sieve {
namespace {
// One stream of random numbers an epoch; far from Generator's streams and from the split's (windows.cpp).
constexpr uint64_t epoch_streams = uint64_t{3} << 62;
}  // namespace

BatchSource::BatchSource(std::shared_ptr<const TokenStore> tokens, Windows windows, int64_t batch_size,
                         uint64_t seed)
    : tokens_(std::move(tokens)), windows_(std::move(windows)), batch_size_(batch_size), seed_(seed) {
    if (batch_size_ < 1) fail_usage(fmt::format("batch_size: {}; want at least 1", batch_size_));
    if (windows_.train.empty() || windows_.validation.empty()) {
        fail(fmt::format("batches: {} train and {} validation windows; want at least one of each",
                         windows_.train.size(), windows_.validation.size()));
    }
}

int64_t BatchSource::train_start(int64_t sample) const {
    const auto count = static_cast<int64_t>(windows_.train.size());
    const int64_t epoch = sample / count;
    if (epoch != epoch_) {
        order_ = random_permutation(count, seed_, epoch_streams + static_cast<uint64_t>(epoch));
        epoch_ = epoch;
    }
    return windows_.train[static_cast<size_t>(order_[static_cast<size_t>(sample % count)])];
}

Batch BatchSource::batch(int64_t step) const {
    if (step < 0) fail(fmt::format("batches: step {}; want 0 or more", step));
    std::vector<int64_t> starts;
    for (int64_t b = 0; b < batch_size_; ++b) starts.push_back(train_start(step * batch_size_ + b));
    return gather(starts);
}

int64_t BatchSource::epoch_of(int64_t step) const {
    return step * batch_size_ / static_cast<int64_t>(windows_.train.size());
}

double BatchSource::steps_per_epoch() const {
    return static_cast<double>(windows_.train.size()) / static_cast<double>(batch_size_);
}

int64_t BatchSource::validation_batches() const {
    return (static_cast<int64_t>(windows_.validation.size()) + batch_size_ - 1) / batch_size_;
}

Batch BatchSource::validation(int64_t index) const {
    if (index < 0 || index >= validation_batches()) {
        fail(fmt::format("batches: validation batch {}; there are {}", index, validation_batches()));
    }
    const auto all = windows_.validation.begin();
    const auto count = static_cast<int64_t>(windows_.validation.size());
    return gather({all + index * batch_size_, all + std::min(count, (index + 1) * batch_size_)});
}

Batch BatchSource::gather(const std::vector<int64_t>& starts) const {
    const Shape shape{static_cast<int64_t>(starts.size()), windows_.length};
    Batch batch{Tensor::empty(shape, DType::int32), Tensor::empty(shape, DType::int32)};
    int32_t* inputs = batch.tokens.data<int32_t>();
    int32_t* targets = batch.targets.data<int32_t>();
    for (const int64_t start : starts) {
        const int32_t* window = tokens_->tokens().data() + start;
        inputs = std::copy_n(window, windows_.length, inputs);
        targets = std::copy_n(window + 1, windows_.length, targets);
    }
    tokens_->check_readable();
    return batch;
}

}  // namespace sieve
