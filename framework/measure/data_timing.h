// Reading and encoding a text, timed by part: what a program does before its first step.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "framework/data/dataset.h"
#include "framework/program/config.h"

namespace sieve {

struct DataTiming {
    std::string part;
    double seconds;            // of the clock
    double processor_seconds;  // of all threads, the system's work for them included
    int64_t bytes;             // of the text that were worked on; 0 where that says nothing
    int64_t
        peak_bytes;  // the most that the process took of the machine's memory meanwhile, mapped files included
};

// By turns, with nothing kept from one part for the next but what is said: reading the text (checked and hashed),
// training a tokenizer on it, encoding it into a cache, all of it as a program does it the first time, and again from
// the cache. `folder` is for the caches; what it holds is removed. Files that were read before are in the system's memory.
std::vector<DataTiming> time_data(const DataConfig& config, const std::filesystem::path& folder);

// From a cache that is filled before: the dataset, the model of this configuration, and the first batch.
std::vector<DataTiming> time_start(const ExperimentConfig& config, const DataConfig& data);

// "reading           1.23 s   243 MB/s   1.20 s of processor time   peak 34 MiB"
std::string describe(const DataTiming& timing);

}  // namespace sieve
