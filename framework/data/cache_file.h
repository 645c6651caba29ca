// Private to this room.
// What the cache's files have in common: they are kept when they can be, made again when they are damaged, and what they
// hold is read once, in order.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "framework/core/error.h"
#include "framework/data/data_log.h"
#include "framework/io/atomic_file.h"
#include "framework/io/mapped_file.h"

namespace sieve {

// The cache cannot be written: the work goes on without it.
struct CacheFailure {
    std::string reason;
};

// A step of writing it: an error of any other step is not its business.
template <class Step>
auto cache_step(Step&& step) {
    try {
        return step();
    } catch (const Error& e) {
        throw CacheFailure{e.what()};
    }
}

// Makes the folder, and removes what programs that were stopped left in it.
inline void prepare_cache_folder(const std::filesystem::path& folder) {
    make_folder(folder);
    remove_temporary_files(folder, std::chrono::hours(1));
}

// What `read` makes of a file that is kept, or nothing, with a note where it is damaged.
template <class Read>
auto read_kept(const std::filesystem::path& path, const DataLog& log, Read&& read)
    -> std::optional<decltype(read())> {
    std::error_code code;
    if (!std::filesystem::exists(path, code)) return std::nullopt;
    try {
        return read();
    } catch (const Error& e) {
        log(std::string(e.what()) + "; it is made again");
        return std::nullopt;
    }
}

// Hands `bytes` of the file to take(part) in parts, whose memory is given back; `what` is reported as it goes on.
template <class Take>
void pass_over(const MappedFile& file, std::string_view bytes, const std::string& what, const DataLog& log,
               Take&& take) {
    constexpr size_t step = 1 << 22;
    for (size_t at = 0; at < bytes.size(); at += step) {
        const std::string_view part = bytes.substr(at, step);
        take(part);
        file.release(part);
        log.progress(what, static_cast<int64_t>(at + part.size()), std::ssize(bytes));
    }
}

}  // namespace sieve
