// What a program says of the process's memory before it trains, against what the process then took.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

// The bytes that stand right before `words`: "about 12 MiB of tensors, 71 MiB of the whole process".
double bytes_before(const std::string& output, const std::string& words) {
    const size_t end = output.find(words);
    REQUIRE(end != std::string::npos);
    const size_t unit = output.rfind(' ', end - 1) + 1, number = output.rfind(' ', unit - 2) + 1;
    const std::string name = output.substr(unit, end - unit);
    const double size = name == "GiB" ? 1 << 30 : name == "MiB" ? 1 << 20 : 1 << 10;
    return std::atof(output.c_str() + number) * size;
}

// Of a program that prints its help. A child of this process begins with the high-water mark of this process, so a
// small program starts it.
int64_t peak_bytes_of_help(const std::string& python, const std::string& program) {
    const TemporaryFolder folder;
    std::string output;
    const int status =
        run_python(python,
                   "import resource, subprocess\n"
                   "subprocess.run(['" +
                       program +
                       "', '--help'], check=True, stdout=subprocess.DEVNULL)\n"
                       "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)\n",
                   folder.path().string(), output);
    REQUIRE_MESSAGE(status == 0, output);
    return std::stoll(output);
}

const std::vector<std::string> configurations{
    "--preset small --batch_size 2 --max_seq_len 64 --vocab_size 300",
    "--preset small",
    "--preset small --batch_size 4 --max_seq_len 512",
    "--preset small --attention_type gqa --n_kv_heads 2",
    "--preset small --attention_type mla",
    "--preset small --vocab_size 2000",
    "--preset small --d_model 256 --n_layers 6",
    "--preset small --num_experts 4 --expert_top_k 2",
    "--preset small --optimizer adamw",
    "--preset small --indexer_heads 8 --indexer_dim 32",
    "--preset small --batch_size 32",
    "--preset small --vocab_size 2000 --tie_embeddings=false",
    "--preset small --ffn_layers DDMM --dense_d_ff 1024 --ffn swiglu",
    "--preset medium --batch_size 4",
};

}  // namespace

TEST_CASE("process memory: what is announced before training is within 10 % of what the process takes") {
    double worst = 0;
    int64_t compared = 0;
    for (size_t i = 0; i < configurations.size(); i += full_tests() ? 1 : configurations.size(), ++compared) {
        const TemporaryFolder folder;
        const std::string command = fmt::format(
            "{0}/experiments/exp4 {1} --data {0}/data/excerpt --cache_dir {2}/cache --results_dir "
            "{2}/results --classic_steps 3 --warmup_steps 2 --sparse_steps 3 --eval_every 3 "
            "--eval_batches 2 --device cpu --threads 2",
            source_dir(), configurations[i], std::string(folder / "run"));
        INFO(command);
        std::string output;
        const int status = run_command(command, output);
        INFO(output);
        REQUIRE(status == 0);
        const double announced = bytes_before(output, " of the whole process"),
                     taken = bytes_before(output.substr(output.find("process took at most")), " of memory");
        MESSAGE(configurations[i] << ": announced " << announced / (1 << 20) << " MiB, taken "
                                  << taken / (1 << 20) << " MiB");
        worst = std::max(worst, std::abs(announced / taken - 1));
        CHECK(announced == doctest::Approx(taken).epsilon(0.1));
    }
    MESSAGE("the process's memory was announced for "
            << compared << " configurations; furthest off: " << 100 * worst << " %");
}

TEST_CASE("process memory: a program holds 30 MB at most before it reads its arguments") {
    const auto python = python_with("resource, subprocess");
    if (!python) return skip("there is no Python");
    for (const char* program : {"/experiments/exp4", "/tools/generate", "/tools/bench"}) {
        const int64_t bytes = peak_bytes_of_help(*python, source_dir() + program);
        MESSAGE(std::string(program) << " --help: " << static_cast<double>(bytes) / 1e6 << " MB");
        CHECK(bytes < 30'000'000);
    }
}
