#include "framework/data/text_batches.h"

#include <algorithm>

#include "framework/data/pretokenizer.h"

namespace sieve {

TextChunk TextBatches::next_chunk(size_t bytes) {
    const std::string_view rest = texts_[text_].substr(at_);
    const size_t end = cut_ && rest.size() > bytes ? word_border(rest, bytes) : rest.size();
    const TextChunk chunk{rest.substr(0, end), text_, end == rest.size()};
    at_ += end;
    if (chunk.ends) ++text_, at_ = 0;
    return chunk;
}

std::vector<TextTask> TextBatches::next(size_t bytes) {
    const size_t most_tasks = (bytes + task_bytes - 1) / task_bytes;
    std::vector<TextTask> tasks;
    while (bytes > 0 && text_ < texts_.size() && tasks.size() < most_tasks) {
        TextTask& task = tasks.emplace_back();
        size_t left = std::min(bytes, task_bytes);
        while (left > 0 && text_ < texts_.size() && task.size() < task_texts) {
            task.push_back(next_chunk(left));
            const size_t taken = std::max<size_t>(1, task.back().text.size());
            left -= std::min(left, taken);
            bytes -= std::min(bytes, taken);
        }
    }
    return tasks;
}

}  // namespace sieve
