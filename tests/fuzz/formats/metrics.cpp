// metrics.jsonl, which a resumed run reads back.
#include "framework/train/metrics_log.h"
#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

std::vector<std::string> samples() {
    return {R"({"stage": "warmup", "step": 1, "time": 1764400000.000, "loss": 1.5, "learning_rate": 0.001}
{"stage": "sparse", "step": 1, "time": 1764400001.250, "loss": 9.1, "grad_norm": 1.25, "val_loss": 9.0}
{"stage": "sparse", "step": 2, "time": 1764400002.500, "loss": 8.5, "seconds": 0.125}
)"};
}

void read(const std::string& input) {
    scratch_file("metrics.jsonl", input);
    const std::vector<MetricsRow> rows = read_metrics(scratch_folder());
    expect(rows.size() <= 1 + input.size() / 20, "more rows than lines");
}

std::vector<std::string> attacks() {
    constexpr size_t many = 100'000;
    return {repeated("{\"stage\":\"sparse\",\"step\":1,\"time\":0}\n", many),
            repeated("\n", 4'000'000),
            repeated("{}\n", 1'000'000),
            repeated("[", 4'000'000) + "\n",
            "{\"stage\": \"" + std::string(4'000'000, 'x') + "\"}\n",
            std::string(4'000'000, 'x')};
}

const RegisteredFormat registered({"metrics", samples, read, attacks});

}  // namespace
}  // namespace sieve::fuzz
