#include "framework/measure/precision_report.h"

#include "framework/core/error.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

TEST_CASE("compare_precisions: every precision against fp32, the finer the more agreement") {
    const IndexerOperands operands{random_normal({1, 400, 4, 32}, 1, DType::float32),
                                   random_normal({1, 400, 32}, 2, DType::float32),
                                   random_normal({1, 400, 4}, 3, DType::float32)};
    const std::vector<PrecisionResult> results = compare_precisions(operands, 40, 1);
    REQUIRE(results.size() == 4);
    CHECK(results[0].precision == "fp32");
    CHECK(results[0].recall == 1);
    double chance = 0;
    for (int t = 40; t < 400; ++t) chance += 40.0 / (t + 1) / 360;
    for (const PrecisionResult& r : results) {
        CHECK(r.seconds > 0);
        CHECK(r.chance == doctest::Approx(chance).epsilon(1e-12));
    }
    CHECK(results[1].recall > 0.97);  // bf16
    CHECK(results[2].recall > 0.85);  // fp8
    CHECK(results[3].recall > 0.95);  // int8
    CHECK(results[2].recall < results[3].recall);
}

TEST_CASE("precision_table: a row for each precision, against the first; layers have a column of their own") {
    std::vector<PrecisionComparison> comparisons{
        {.tokens = 64, .results = {{"fp32", 0.002, 1, 0.5}}},
        {.tokens = 4096, .results = {{"fp32", 0.0448, 1, 0.25}, {"int8", 0.0672, 0.99486, 0.25}}}};
    CHECK(precision_table(comparisons) ==
          "| tokens | precision | ms a layer | against float32 | recall of float32's keys | random keys |\n"
          "|---|---|---|---|---|---|\n"
          "| 64 | fp32 | 2.0 | 1.00x | 1.0000 | 0.5000 |\n"
          "| 4096 | fp32 | 44.8 | 1.00x | 1.0000 | 0.2500 |\n"
          "| 4096 | int8 | 67.2 | 1.50x | 0.9949 | 0.2500 |\n");
    comparisons = {{.layer = 3, .tokens = 64, .results = {{"fp32", 0.00002, 1, 0.5}}}};
    CHECK(precision_table(comparisons) ==
          "| layer | tokens | precision | ms a layer | against float32 | recall of float32's keys | random "
          "keys |\n"
          "|---|---|---|---|---|---|---|\n"
          "| 3 | 64 | fp32 | 0.020 | 1.00x | 1.0000 | 0.5000 |\n");
}
