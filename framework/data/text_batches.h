// Private to this room. Texts as tasks for several threads, in pieces that follow each other.
#pragma once

#include <atomic>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "framework/core/threads.h"

namespace sieve {

struct TextChunk {
    std::string_view text;
    size_t of;  // which text it is a part of
    bool ends;  // it is the last part
};
using TextTask = std::vector<TextChunk>;

class TextBatches {
  public:
    static constexpr size_t task_bytes = 1 << 20, task_texts = 256;
    // What several threads are given at once: enough for each to be busy until the last one is done, and little enough
    // that what they made of it needs no memory that counts.
    static size_t batch_bytes(size_t threads) { return 4 * threads * task_bytes; }

    // Long texts are cut at borders of words (pretokenizer.h) where that is allowed.
    TextBatches(std::span<const std::string_view> texts, bool cut_at_words)
        : texts_(texts), cut_(cut_at_words) {}

    // The next tasks, of about so many bytes together at most and task_bytes or task_texts each; a text that is not cut
    // may have more bytes. Empty at the end.
    std::vector<TextTask> next(size_t bytes);

  private:
    TextChunk next_chunk(size_t bytes);

    std::span<const std::string_view> texts_;
    bool cut_;
    size_t text_ = 0, at_ = 0;
};

// Calls work(state, i) for each i in [0, n), in any order, on as many threads as there are states, each of which one
// thread uses at a time.
template <class State, class Work>
void share_tasks(std::vector<State>& states, size_t n, Work&& work) {
    std::atomic<size_t> next{0};
    parallel_for(std::ssize(states), 1, [&](int64_t begin, int64_t end) {
        for (int64_t s = begin; s < end; ++s)
            for (size_t i = next++; i < n; i = next++) work(states[static_cast<size_t>(s)], i);
    });
}

}  // namespace sieve
