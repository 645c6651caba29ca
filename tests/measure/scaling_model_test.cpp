// The paper model of docs/scaling.md counts as flops.h does.
#include <nlohmann/json.hpp>

#include "framework/measure/flops.h"
#include "framework/program/config.h"
#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

TEST_CASE("docs/scaling_model.py: its operations are those of flops.h") {
    const auto python = python_with("json");
    if (!python) return skip("no python3");
    std::string output;
    REQUIRE(run_command(*python + " " + source_dir() + "/docs/scaling_model.py --flops", output) == 0);
    const auto counts = nlohmann::ordered_json::parse(output);
    CHECK(counts.size() == 50);
    for (const auto& count : counts) {
        INFO(count.dump());
        const ModelConfig config = config_from_json(count, "scaling_model.py", true).model;
        const StepFlops flops = training_step_flops(config, 1, count.at("seq_len"));
        CHECK(count["flops"]["projections"].get<double>() ==
              doctest::Approx(flops.projections + flops.experts + flops.head).epsilon(1e-12));
        CHECK(count["flops"]["attention"].get<double>() == doctest::Approx(flops.attention).epsilon(1e-12));
        CHECK(count["flops"]["indexer"].get<double>() == doctest::Approx(flops.indexer()).epsilon(1e-12));
    }
}
