#include "framework/measure/data_timing.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>
#include <optional>

#include "framework/data/corpus.h"
#include "framework/io/atomic_file.h"
#include "framework/measure/process_memory.h"
#include "framework/program/progress.h"
#include "models/transformer.h"

namespace sieve {
namespace {

using Clock = std::chrono::steady_clock;

double processor_seconds() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// `work` returns the bytes that it worked on.
template <class Work>
DataTiming timed(const std::string& part, Work&& work) {
    reset_peak_process_bytes();
    const double processor = processor_seconds();
    const Clock::time_point start = Clock::now();
    const int64_t bytes = work();
    return {.part = part,
            .seconds = std::chrono::duration<double>(Clock::now() - start).count(),
            .processor_seconds = processor_seconds() - processor,
            .bytes = bytes,
            .peak_bytes = peak_process_bytes()};
}

int64_t bytes_of(const std::vector<TextPiece>& pieces) {
    int64_t sum = 0;
    for (const TextPiece& piece : pieces) sum += std::ssize(piece.text);
    return sum;
}

}  // namespace

std::vector<DataTiming> time_data(const DataConfig& config, const std::filesystem::path& folder) {
    const DataLog log = loading_log();
    DataConfig cached = config;
    cached.cache_dir = folder / "all";
    Corpus corpus;
    std::vector<DataTiming> timings;
    timings.push_back(timed("reading", [&] {
        corpus = load_corpus(config.data, {.text_key = config.text_key, .cache_dir = folder}, log);
        return corpus.bytes();
    }));
    const TextSplit split = hold_out_blocks(corpus, config.val_fraction, config.seq_len);
    std::vector<std::string_view> texts;
    for (const TextPiece& piece : split.train) texts.push_back(piece.text);
    const DataLog releasing_texts = releasing(*corpus.store, texts, log);
    std::optional<Tokenizer> tokenizer;
    timings.push_back(timed("tokenizer", [&] {
        tokenizer = cached_tokenizer(
            "", {.texts = texts, .texts_hash = 0, .vocab_size = config.vocab_size, .name = corpus.name},
            releasing_texts);
        return bytes_of(split.train);
    }));
    for (const TextPiece& piece : split.validation) texts.push_back(piece.text);
    const DataLog releasing_all = releasing(*corpus.store, texts, log);
    timings.push_back(timed("encoding", [&] {
        cached_tokens(folder, {.split = split, .tokenizer = *tokenizer, .name = corpus.name}, releasing_all);
        return corpus.bytes();
    }));
    const int64_t bytes = corpus.bytes();
    for (const char* part : {"first start", "from the cache"})
        timings.push_back(timed(part, [&] {
            load_dataset(cached, log);
            return bytes;
        }));
    remove_folder(folder);
    return timings;
}

std::vector<DataTiming> time_start(const ExperimentConfig& config, const DataConfig& data) {
    const DataLog log = loading_log();
    load_dataset(data, log);
    std::optional<Dataset> dataset;
    std::vector<DataTiming> timings;
    timings.push_back(timed("dataset", [&] {
        dataset.emplace(data, log);
        return int64_t{0};
    }));
    timings.push_back(timed("model", [&] {
        const Transformer model(config.model, ParameterInit{});
        return int64_t{0};
    }));
    timings.push_back(timed("first batch", [&] {
        dataset->batch(0);
        return int64_t{0};
    }));
    return timings;
}

std::string describe(const DataTiming& t) {
    const std::string rate =
        t.bytes > 0 ? fmt::format("{:>6.0f} MB/s", static_cast<double>(t.bytes) / t.seconds / 1e6) : "";
    return fmt::format("{:<16}{:>8.2f} s{:>13}{:>9.2f} s of processor time   peak {:.0f} MiB", t.part,
                       t.seconds, rate, t.processor_seconds, static_cast<double>(t.peak_bytes) / (1 << 20));
}

}  // namespace sieve
