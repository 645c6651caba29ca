#include "framework/measure/data_timing.h"

#include <filesystem>

#include "framework/measure/process_memory.h"
#include "framework/program/config.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

TEST_CASE("data timing: every part is timed, and nothing is left in the folder") {
    const TemporaryFolder folder;
    const DataConfig config{
        .data = source_dir() + "/data/excerpt", .vocab_size = 400, .cache_dir = "", .seq_len = 32};
    const std::vector<DataTiming> timings = time_data(config, folder / "caches");
    std::vector<std::string> parts;
    for (const DataTiming& t : timings) {
        parts.push_back(t.part);
        CHECK(t.seconds > 0);
        CHECK(t.processor_seconds > 0);
        CHECK(t.peak_bytes > 1 << 20);
        // A tenth of the text is held out, and no tokenizer reads it.
        const double share = static_cast<double>(t.bytes) / 260667;
        CHECK((t.part == "tokenizer" ? share > 0.85 && share < 0.95 : share == 1));
    }
    CHECK(parts ==
          std::vector<std::string>{"reading", "tokenizer", "encoding", "first start", "from the cache"});
    CHECK(!fs::exists(folder / "caches"));
    CHECK(describe({.part = "encoding",
                    .seconds = 2,
                    .processor_seconds = 3.5,
                    .bytes = 30'000'000,
                    .peak_bytes = 5 << 20}) ==
          "encoding            2.00 s      15 MB/s     3.50 s of processor time   peak 5 MiB");
}

TEST_CASE("data timing: the start of a program from a cache that is filled") {
    const TemporaryFolder folder;
    ExperimentConfig config;
    apply_preset(config, "small");
    const DataConfig data{
        .data = source_dir() + "/data/excerpt", .vocab_size = 400, .cache_dir = folder / "cache"};
    std::vector<std::string> parts;
    for (const DataTiming& t : time_start(config, data)) parts.push_back(t.part);
    CHECK(parts == std::vector<std::string>{"dataset", "model", "first batch"});
    CHECK(fs::exists(folder / "cache"));
}

TEST_CASE("process memory: the peak can begin again") {
    {
        const std::string large(200 << 20, 'a');
        CHECK(peak_process_bytes() > 200 << 20);
        CHECK(large.back() == 'a');
    }
    reset_peak_process_bytes();
    const int64_t after = peak_process_bytes();
    const std::string large(100 << 20, 'a');
    CHECK(large.back() == 'a');
    CHECK(peak_process_bytes() > after + (90 << 20));
}
