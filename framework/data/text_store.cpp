#include "framework/data/text_store.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace sieve {
namespace {

// Releases texts by how many of their bytes, all together, are done.
class PassedText {
  public:
    PassedText(const TextStore& store, std::span<const std::string_view> texts)
        : release_(store), texts_(texts) {}

    // Less than before: another pass has begun.
    void operator()(int64_t done) {
        if (done < done_) done_ = 0, text_ = 0, at_ = 0;
        for (auto left = static_cast<size_t>(done - done_); left > 0 && text_ < texts_.size();) {
            const std::string_view part = texts_[text_].substr(at_, left);
            release_.passed(part);
            left -= part.size();
            at_ += part.size();
            if (at_ == texts_[text_].size()) ++text_, at_ = 0;
        }
        done_ = done;
    }

  private:
    TextRelease release_;
    std::span<const std::string_view> texts_;
    int64_t done_ = 0;
    size_t text_ = 0, at_ = 0;  // the first byte that was not passed
};

}  // namespace

std::string_view TextStore::add(std::string text) {
    return strings_.emplace_back(std::move(text));
}

std::string_view TextStore::add(std::unique_ptr<const MappedFile> file) {
    const std::string_view text = file->bytes();
    if (!text.empty()) files_.emplace(text.data(), std::move(file));
    return text;
}

const MappedFile* TextStore::file_of(std::string_view part) const {
    auto file = files_.upper_bound(part.data());
    if (file == files_.begin()) return nullptr;
    const std::string_view text = (--file)->second->bytes();
    return std::less<>()(part.data(), text.data() + text.size()) ? file->second.get() : nullptr;
}

// A short text costs as much memory as a longer one: the kernel maps 64 KiB around what is looked at. Many of them in one
// place cost it once. Giving back whole files now and then takes fewer calls than to do it part by part.
void TextRelease::passed(std::string_view part) {
    constexpr uintptr_t around = 1 << 16;
    constexpr size_t most = 16 << 20;
    const MappedFile* file = store_.file_of(part);
    if (!file) return;
    if (files_.empty() || files_.back() != file) files_.push_back(file);
    const uintptr_t first = reinterpret_cast<uintptr_t>(part.data()) / around * around;
    const uintptr_t end =
        (reinterpret_cast<uintptr_t>(part.data()) + part.size() + around - 1) / around * around;
    const bool goes_on = first < end_ && end >= end_;
    bytes_ += goes_on ? end - end_ : end - first;
    end_ = end;
    if (bytes_ < most) return;
    for (const MappedFile* read : files_) read->release(read->bytes());
    files_.clear();
    bytes_ = 0;
}

void TextStore::check_unchanged() const {
    for (const auto& [begin, file] : files_) file->check_unchanged();
}

DataLog releasing(const TextStore& store, std::span<const std::string_view> texts, const DataLog& log) {
    const auto passed = std::make_shared<PassedText>(store, texts);
    return {[&log](const std::string& line) { log(line); },
            [&log, passed](const std::string& what, int64_t done, int64_t total, DataUnit unit) {
                if (unit == DataUnit::bytes && done > 0) (*passed)(done);
                log.progress(what, done, total, unit);
            }};
}

}  // namespace sieve
