// The formats that Sieve reads, each with valid samples and one function that reads it: what
// mutation_test.cpp mutates, and what libFuzzer drives (fuzz_target.cpp). A new format is a file in formats/.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace sieve::fuzz {

struct Format {
    std::string name;
    // Valid inputs: each can be read, and mutations begin with one of them.
    std::function<std::vector<std::string>()> samples;
    // Reads the input. What it refuses it throws as sieve::Error; any other exception is a fault, and so is a
    // wrong result, which `expect` throws.
    std::function<void(const std::string& input)> read;
    // Megabytes that were made to take much more: memory, time, the stack. The same is demanded of reading
    // them.
    std::function<std::vector<std::string>()> attacks = {};
    // The first sample is as Sieve writes it, and says of every bit whether it was flipped.
    bool finds_every_flip = false;
};

// In the order of their names.
std::vector<Format> formats();
struct RegisteredFormat {
    explicit RegisteredFormat(Format format);
};

std::string repeated(std::string_view part, size_t times);
void expect(bool holds, const char* what);  // throws std::logic_error

// Writes a file into a folder of this process, which lies in memory where the system has such a place, and
// returns its path.
std::string scratch_file(const std::string& name, std::string_view bytes);
std::string scratch_folder();
std::string bytes_of_file(const std::string& path);

}  // namespace sieve::fuzz
