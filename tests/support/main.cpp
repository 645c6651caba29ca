// The test runner: doctest, with a closing line that counts test cases, and with skipped ones counted apart.
// It fails when a test fails and when none ran.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "framework/core/cuda/runtime.h"
#include "tests/support/testing.h"

namespace {

std::vector<sieve::Device> devices;
bool current_skipped = false;
int passed = 0, failed = 0, skipped = 0;

struct CountingListener : doctest::IReporter {
    explicit CountingListener(const doctest::ContextOptions&) {}
    void report_query(const doctest::QueryData&) override {}
    void test_run_start() override {}
    void test_run_end(const doctest::TestRunStats&) override {}
    void test_case_start(const doctest::TestCaseData&) override { current_skipped = false; }
    void test_case_reenter(const doctest::TestCaseData&) override {}
    void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
        if (stats.failure_flags)
            ++failed;
        else if (current_skipped)
            ++skipped;
        else
            ++passed;
    }
    void test_case_exception(const doctest::TestCaseException&) override {}
    void subcase_start(const doctest::SubcaseSignature&) override {}
    void subcase_end() override {}
    void log_assert(const doctest::AssertData&) override {}
    void log_message(const doctest::MessageData&) override {}
    void test_case_skipped(const doctest::TestCaseData&) override {}
};

DOCTEST_REGISTER_LISTENER("counting", 1, CountingListener);

}  // namespace

namespace sieve::testing {

const std::vector<Device>& test_devices() {
    return devices;
}

bool is_emulated(Device device) {
    if (device.is_cpu()) return false;
    // Under compute-sanitizer a real one is about as slow (tests/gpu.sh).
    return std::getenv("SIEVE_SMALL_CASES") || cuda::device_info().name.find("emulat") != std::string::npos;
}

void skip(const std::string& reason) {
    current_skipped = true;
    std::cout << "SKIP: " << reason << std::endl;
}

}  // namespace sieve::testing

// --devices=cpu, --devices=cuda or neither. A device that is asked for by name must be there.
int choose_devices(int argc, char** argv) {
    bool cpu = true, cuda = sieve::cuda::available();
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        if (argument.rfind("--devices=", 0) != 0) continue;
        cpu = argument == "--devices=cpu";
        cuda = argument == "--devices=cuda";
        if (cuda && !sieve::cuda::available()) {
            std::cerr << "no CUDA device: " << sieve::cuda::why_unavailable() << std::endl;
            return 2;
        }
    }
    if (cpu) devices.push_back(sieve::Device{});
    if (cuda)
        devices.push_back(sieve::cuda::device);
    else
        std::cout << "SKIP: CUDA: " << sieve::cuda::why_unavailable() << std::endl;
    return 0;
}

int main(int argc, char** argv) {
    if (const int status = choose_devices(argc, argv)) return status;
    doctest::Context context(argc, argv);
    const int status = context.run();
    if (context.shouldExit()) return status;
    std::cout << passed << " passed, " << failed << " failed";
    if (skipped) std::cout << ", " << skipped << " skipped";
    std::cout << std::endl;
    return status != 0 || passed + failed == 0 ? 1 : 0;
}
