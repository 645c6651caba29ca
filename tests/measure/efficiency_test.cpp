// profile_efficiency: what it measures and writes, and the arithmetic behind its conclusions.
#include "framework/measure/efficiency.h"

#include <cmath>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/measure/memory_estimate.h"
#include "framework/nn/step_parts.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
#include "framework/ops/scale/scale.h"
#include "framework/ops/sum/sum.h"
#include "tests/models/variants.h"
#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

constexpr AttentionVariant every_variant[] = {AttentionVariant::classic, AttentionVariant::materialised,
                                              AttentionVariant::sparse};

EfficiencyPlan tiny_plan() {
    EfficiencyPlan plan;
    ModelConfig& m = plan.base.model;
    m.vocab_size = 50, m.d_model = 32, m.n_heads = 4, m.n_layers = 2, m.d_ff = 24;
    m.num_experts = 2, m.expert_top_k = 1, m.indexer_heads = 2, m.indexer_dim = 8;
    plan.lengths = {16, 33};
    plan.variants = {std::begin(every_variant), std::end(every_variant)};
    plan.stages = {StepKind::forward, StepKind::train};
    plan.tokens_per_step = 64;
    plan.top_k = 8;
    plan.memory_limit = int64_t{1} << 30;
    plan.steps = 2, plan.untimed_steps = 1, plan.part_steps = 2;
    return plan;
}

std::optional<EfficiencyPlan> parse(const std::string& arguments) {
    std::vector<std::string> words{"profile_efficiency"};
    std::istringstream stream(arguments);
    for (std::string word; stream >> word;) words.push_back(word);
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    return parse_efficiency(static_cast<int>(argv.size()), argv.data());
}

double part_of(const std::vector<PartSeconds>& parts, const std::string& name, Pass pass) {
    for (const PartSeconds& part : parts)
        if (name == part.name) return pass == Pass::forward ? part.forward : part.backward;
    return 0;
}

}  // namespace

TEST_CASE("timed parts: the innermost counts, and a backward counts as its forward's part") {
    const Tensor x = random_normal({64, 1024}, 1).set_requires_grad(true);
    PartTimer timer(Device{});
    Tensor y;
    {
        const TimedPart outer("outer");
        y = scale(x, 2);
        const TimedPart inner("inner");
        CHECK(std::string(current_part()) == "inner");
        y = sum(scale(y, 3));
    }
    CHECK(std::string(current_part()) == unnamed_part);
    backward(y);
    check_error("part timer: this thread has one already", [] { PartTimer second(Device{}); });
    const std::vector<PartSeconds> parts = timer.stop();
    for (const char* name : {"outer", "inner"})
        for (const Pass pass : {Pass::forward, Pass::backward}) {
            INFO(name);
            CHECK(part_of(parts, name, pass) > 0);
        }
    CHECK(part_of(parts, unnamed_part, Pass::forward) > 0);    // backward()'s own bookkeeping
    CHECK(part_of(parts, unnamed_part, Pass::backward) == 0);  // all nodes had a part
    PartTimer(Device{}).stop();                                // the thread has none any more
}

DEVICE_TEST_CASE("efficiency: materialised attention trains as classic does", device) {
    const EfficiencyPlan plan = tiny_plan();
    const auto losses_of = [&](AttentionVariant variant) {
        TimedModel model(plan.config_of(variant, 33), device);
        std::vector<double> losses;
        for (int i = 0; i < 2; ++i)
            for (const StepKind kind : {StepKind::forward, StepKind::train})
                losses.push_back(model.run(kind).loss);
        return losses;
    };
    const std::vector<double> classic = losses_of(AttentionVariant::classic),
                              materialised = losses_of(AttentionVariant::materialised);
    for (size_t i = 0; i < classic.size(); ++i)
        CHECK(classic[i] == doctest::Approx(materialised[i]).epsilon(1e-5));
    CHECK(classic[0] != classic[2]);
}

DEVICE_TEST_CASE("efficiency: every part of a step gets time, the sparse ones in the sparse model alone",
                 device) {
    for (const AttentionVariant variant : every_variant) {
        INFO(name_of(variant));
        const bool sparse = variant == AttentionVariant::sparse;
        TimedModel model(tiny_plan().config_of(variant, 16), device);
        model.run(StepKind::train);
        const std::vector<PartSeconds> train = model.run_in_parts(StepKind::train),
                                       forward = model.run_in_parts(StepKind::forward);
        for (const char* name : step_part::all) {
            INFO(name);
            const std::string part = name;
            const bool of_indexer = part == step_part::indexer_projections || part == step_part::selection ||
                                    part == step_part::alignment_loss;
            const bool expected = sparse || !of_indexer;
            CHECK((part_of(train, name, Pass::forward) > 0) == expected);
            CHECK((part_of(train, name, Pass::backward) > 0) ==
                  (expected && part != step_part::selection && part != step_part::optimizer));
            CHECK((part_of(forward, name, Pass::forward) > 0) == (expected && part != step_part::optimizer));
            CHECK(part_of(forward, name, Pass::backward) == 0);
        }
    }
}

TEST_CASE("efficiency: a steady step allocates nothing, and its peak does not depend on other models") {
    const EfficiencyPlan plan = tiny_plan();
    TimedModel alone(plan.config_of(AttentionVariant::classic, 33), {});
    alone.run(StepKind::train);
    const TimedStep first = alone.run(StepKind::train);
    TimedModel other(plan.config_of(AttentionVariant::materialised, 33), {});
    other.run(StepKind::train);
    const TimedStep second = alone.run(StepKind::train);
    CHECK(second.system_calls == 0);
    CHECK(static_cast<double>(second.peak_bytes) == doctest::Approx(first.peak_bytes).epsilon(0.02));
    CHECK(alone.state_bytes() > alone.parameter_bytes());
    CHECK(first.peak_bytes > alone.state_bytes());
}

TEST_CASE("efficiency: estimated memory covers what a step takes, and not much more") {
    for (const Variant& variant : model_variants())
        for (const AttentionVariant attention : every_variant)
            for (const int64_t length : {96, 400}) {
                if (attention == AttentionVariant::materialised && variant.name != model_variants()[0].name)
                    continue;
                EfficiencyPlan plan = tiny_plan();
                plan.base.model = tiny_variant(variant, "classic");
                plan.tokens_per_step = 800;
                const ExperimentConfig config = plan.config_of(attention, length);
                const MemoryEstimate estimate(plan.config_of(attention, 16), {});
                TimedModel model(config, {});
                for (const StepKind kind : {StepKind::forward, StepKind::train}) {
                    INFO(variant.name << ", " << std::string(name_of(attention)) << ", "
                                      << std::string(name_of(kind)) << ", " << length);
                    model.run(kind);
                    const auto peak = static_cast<double>(model.run(kind).peak_bytes);
                    const auto estimated = static_cast<double>(estimate.bytes(config, kind));
                    CHECK(estimated > 0.97 * peak);
                    CHECK(estimated < (kind == StepKind::train ? 1.5 : 2.5) * peak + (1 << 19));
                }
            }
}

TEST_CASE("efficiency: every selector is measured, and its memory estimated") {
    for (const SelectorKind& kind : selector_kinds()) {
        EfficiencyPlan plan = tiny_plan();
        plan.base.model.selector = kind.name;
        plan.tokens_per_step = 800;
        const ExperimentConfig config = plan.config_of(AttentionVariant::sparse, 200);
        const MemoryEstimate estimate(plan.config_of(AttentionVariant::sparse, 16), {});
        TimedModel model(config, {});
        for (const StepKind step : {StepKind::forward, StepKind::train}) {
            INFO(kind.name << ", " << std::string(name_of(step)));
            model.run(step);
            const auto peak = static_cast<double>(model.run(step).peak_bytes);
            CHECK(peak > 0);
            CHECK(static_cast<double>(estimate.bytes(config, step)) > 0.9 * peak);
        }
    }
}

TEST_CASE("efficiency: a whole run writes every number") {
    const TemporaryFolder folder;
    EfficiencyPlan plan = tiny_plan();
    plan.folder = folder / "results";
    CHECK(run_efficiency(plan) == 0);
    const auto json = read_json(plan.folder + "/efficiency.json");
    CHECK(json["interrupted"] == false);
    CHECK(json["gemm_gflop_per_second"] > 0);
    REQUIRE(json["points"].size() == 6);
    for (const auto& point : json["points"]) {
        INFO(point.dump());
        CHECK(point["skipped"].is_null());
        CHECK(point["parameter_and_optimizer_bytes"] > point["parameter_bytes"]);
        CHECK(point["top_k"].is_null() == (point["variant"] != "sparse"));
        for (const char* stage : {"forward", "train"}) {
            const auto& step = point[stage];
            CHECK(step["all_seconds"].size() == 2);
            CHECK(step["fastest"] <= step["seconds"]);
            CHECK(step["lower_quartile"] <= step["upper_quartile"]);
            CHECK(step["seconds"] <= step["slowest"]);
            CHECK(step["peak_tensor_bytes"] > point["parameter_bytes"]);
            CHECK(step["ratio_to_bound"].get<double>() ==
                  doctest::Approx(step["bound_seconds"].get<double>() / step["seconds"].get<double>()));
            double sum = 0, flops = 0;
            for (const auto& [name, part] : step["parts"].items()) {
                CHECK(part["seconds"] >= 0);
                sum += part["seconds"].get<double>();
                flops += part["flops"].get<double>();
            }
            CHECK(sum == doctest::Approx(step["parts_seconds"].get<double>()));
            CHECK(flops == doctest::Approx(step["flops"].get<double>()));
        }
    }
    for (const char* stage : {"forward", "train"}) {
        const auto& comparison = json["comparison"][stage];
        REQUIRE(comparison["by_length"].size() == 2);
        const auto& one = comparison["by_length"][1];
        CHECK(one["length"] == 33);
        // Two steps took turns: the median of the two ratios is their mean, the quartiles lie half way to it.
        const auto ratio = [&](int i) {
            return json["points"][3][stage]["all_seconds"][i].get<double>() /
                   json["points"][5][stage]["all_seconds"][i].get<double>();
        };
        const double low = std::min(ratio(0), ratio(1)), high = std::max(ratio(0), ratio(1));
        CHECK(one["speedup_over_classic"].get<double>() == doctest::Approx((low + high) / 2));
        CHECK(one["speedup_over_classic_quartiles"][0].get<double>() ==
              doctest::Approx(low + (high - low) / 4));
        CHECK(one["speedup_over_classic_quartiles"][1].get<double>() ==
              doctest::Approx(high - (high - low) / 4));
        CHECK(one["bound_by_flops"].get<double>() ==
              doctest::Approx(json["points"][3][stage]["flops"].get<double>() /
                              json["points"][5][stage]["flops"].get<double>()));
        CHECK(comparison["crossover"]["text"].is_string());
    }
    std::istringstream csv(read_file(plan.folder + "/efficiency.csv"));
    std::string line;
    int64_t lines = 0, commas = 0;
    for (; std::getline(csv, line); ++lines) {
        const int64_t here = std::count(line.begin(), line.end(), ',');
        if (lines == 0) commas = here;
        CHECK(here == commas);
    }
    CHECK(lines == 1 + 12);
    CHECK(read_file(plan.folder + "/efficiency.png").substr(1, 3) == "PNG");
}

TEST_CASE("efficiency: what does not fit is reported and skipped, the rest is measured") {
    const TemporaryFolder folder;
    EfficiencyPlan plan = tiny_plan();
    plan.folder = folder / "results";
    plan.lengths = {16, 1024};
    plan.part_steps = 0;
    const int64_t fits = MemoryEstimate(plan.config_of(AttentionVariant::classic, 1024), {})
                             .bytes(plan.config_of(AttentionVariant::classic, 1024), StepKind::train);
    plan.memory_limit = memory_stats().live_bytes + 2 * fits;  // the T x T tensors take much more
    CHECK(run_efficiency(plan) == 0);
    const auto json = read_json(plan.folder + "/efficiency.json");
    for (const auto& point : json["points"]) {
        const bool too_large = point["length"] == 1024 && point["variant"] == "materialised";
        INFO(point.dump());
        CHECK(point["skipped"].is_null() == !too_large);
        CHECK(point["train"].is_null() == too_large);
        if (too_large) CHECK(point["skipped"].get<std::string>().find("needs about ") == 0);
    }
    CHECK(json["comparison"]["train"]["by_length"][1]["speedup_over_materialised"].is_null());
    CHECK(read_file(plan.folder + "/efficiency.csv").find("train,1024,materialised,1,,,,,,,,") !=
          std::string::npos);

    plan.memory_limit = 1 << 10;  // not even the parameters
    CHECK(run_efficiency(plan) == 0);
    const auto none_fits = read_json(plan.folder + "/efficiency.json");
    for (const auto& point : none_fits["points"]) {
        CHECK(!point["skipped"].is_null());
        CHECK(point["forward"].is_null());
    }
}

TEST_CASE("efficiency: an allocation that fails costs its point alone") {
    const TemporaryFolder folder;
    EfficiencyPlan plan = tiny_plan();
    plan.folder = folder / "results";
    make_folder(plan.folder);
    // The first probe of classic's memory; later ones, and steps, wherever these numbers fall.
    for (const int64_t n : {1, 1200, 4000, 6000}) {
        INFO(n);
        fail_allocation_after(n);
        const EfficiencyResults results = measure_efficiency(plan);
        fail_allocation_after(0);
        std::vector<const EfficiencyPoint*> skipped;
        for (const EfficiencyPoint& point : results.points) {
            if (!point.skipped.empty()) skipped.push_back(&point);
            CHECK(point.steps.size() == (point.skipped.empty() ? 2 : 0));
        }
        REQUIRE(!skipped.empty());
        for (const EfficiencyPoint* point : skipped) {
            CHECK(point->variant == skipped[0]->variant);
            CHECK(point->skipped.find("out of memory: cannot allocate") == 0);
        }
        if (n == 1) CHECK(skipped.size() == 2);  // no estimate, so neither length
    }
}

TEST_CASE("efficiency: crossover between the last slower length and the next") {
    const double nan = NAN;
    const auto at = [](const std::vector<double>& speedups) {
        std::vector<std::optional<Quartiles>> exact;
        for (const double s : speedups)
            exact.push_back(std::isnan(s) ? std::nullopt : std::optional(Quartiles{s, s, s}));
        return crossover_of({100, 200, 400, 800}, exact);
    };
    // Half way in log length between 200 and 400: 1/s and s lie evenly around 1.
    CHECK(*at({0.5, 0.8, 1.25, 2}).length == doctest::Approx(200 * std::sqrt(2.0)));
    CHECK(at({0.5, 0.8, 1.25, 2}).text == "at about 283 tokens");
    CHECK(*at({0.5, 0.8, nan, 1.25}).length == doctest::Approx(400));  // over what was not measured
    CHECK(*at({1.25, 0.5, 2, 2}).length ==
          doctest::Approx(200 * std::sqrt(2.0)));  // a lucky step does not count
    CHECK(!at({0.5, 0.8, 0.9, 1}).length);
    CHECK(at({0.5, 0.8, 0.9, nan}).text == "none up to 400 tokens");
    CHECK(!at({1.5, 2, 3, 4}).length);
    CHECK(at({1.5, 2, 3, 4}).text == "faster at every length, from 100 tokens on");
    CHECK(at({nan, nan, nan, nan}).text == "not measured");
}

TEST_CASE("efficiency: a crossover is one only where the spreads leave 1 alone") {
    const Quartiles slower{0.4, 0.5, 0.6}, faster{1.7, 2, 2.3}, unknown{0.7, 0.98, 1.3};
    const auto at = [](const std::vector<std::optional<Quartiles>>& speedups) {
        return crossover_of({100, 200, 400, 800}, speedups);
    };
    CHECK(*at({slower, slower, faster, faster}).length == doctest::Approx(200 * std::sqrt(2.0)));
    CHECK(at({slower, unknown, faster, faster}).text ==
          "not seen between 100 and 400 tokens: the times spread too far");
    CHECK(at({slower, slower, unknown, unknown}).text ==
          "not seen between 200 and 800 tokens: the times spread too far");
    CHECK(at({unknown, unknown, faster, faster}).text ==
          "not seen between 100 and 400 tokens: the times spread too far");
    CHECK(at({faster, slower, faster, unknown}).text ==
          "not seen between 200 and 800 tokens: the times spread too far");
    CHECK(at({unknown, {}, {}, {}}).text == "not seen at 100 tokens, the only length");
    CHECK(at({unknown, unknown, slower, slower}).text == "none up to 800 tokens");
    for (const auto& speedups : {std::vector<std::optional<Quartiles>>{slower, unknown, faster, faster},
                                 {unknown, unknown, unknown, unknown}})
        CHECK(!at(speedups).length);
}

TEST_CASE("paired steps: the spread decides") {
    const Quartiles q = quartiles_of({4, 1, 2, 3});
    CHECK(q.lower == 1.75);
    CHECK(q.median == 2.5);
    CHECK(q.upper == 3.25);
    CHECK(quartiles_of({7}).lower == 7);
    check_error("quartiles of nothing", [] { quartiles_of({}); });
    // The load doubled half way: each pair still says 2, though the medians are those of unlike hours.
    const Quartiles drifting = PairedSteps{{2, 2, 4, 4}, {1, 1, 2, 2}}.speedup();
    CHECK(drifting.lower == 2);
    CHECK(drifting.upper == 2);
    CHECK(judge({1.2, 1.3, 1.4}, 1.2) == Verdict::met);
    CHECK(judge({0.9, 1.1, 1.19}, 1.2) == Verdict::not_met);
    CHECK(judge({0.5, 1.3, 2.0}, 1.2) == Verdict::undecided);
    CHECK(judge({0.5, 0.9, 1.2}, 1.2) == Verdict::undecided);
}

namespace {

StepMeasurement measured(double seconds, int64_t peak_bytes, const std::vector<PartSeconds>& parts) {
    return {
        .seconds = {seconds, seconds / 2, 2 * seconds}, .steps_in_parts = {parts}, .peak_bytes = peak_bytes};
}

// classic and sparse at lengths 16 and 33, materialised at 16 alone; medians of 0.2, 0.4, ... s.
EfficiencyResults results_without_long_materialised(const EfficiencyPlan& plan, StepKind kind) {
    EfficiencyResults results;
    double seconds = 0;
    for (const int64_t length : plan.lengths)
        for (const AttentionVariant variant : plan.variants) {
            EfficiencyPoint point{.variant = variant, .config = plan.config_of(variant, length)};
            seconds += 0.2;
            if (length == 33 && variant == AttentionVariant::materialised) {
                point.skipped = "needs too much", point.estimated_bytes = int64_t{3} << 30;
            } else {
                std::vector<PartSeconds> parts{{step_part::attention, seconds / 4, seconds / 2}};
                if (variant == AttentionVariant::sparse) parts.push_back({step_part::selection, 0.0125, 0});
                point.steps[kind] = measured(seconds, length << 20, parts);
            }
            results.points.push_back(std::move(point));
        }
    return results;
}

// "16 (4 % of FLOPs)" -> "16": the shares are those of flops_test.cpp.
std::string without_shares(std::string table) {
    for (size_t at; (at = table.find(" (")) != std::string::npos;)
        table.erase(at, table.find(')', at) + 1 - at);
    return table;
}

}  // namespace

TEST_CASE("efficiency: the tables for a page") {
    EfficiencyPlan plan = tiny_plan();
    for (const StepKind kind : {StepKind::train, StepKind::forward}) {
        plan.stages = {kind};
        const EfficiencyResults results = results_without_long_materialised(plan, kind);
        const double bounds[] = {flop_bound(plan, 16, kind), flop_bound(plan, 33, kind)};
        char lines[2][200];  // the steps' times are spread too far for shares of a bound
        std::snprintf(lines[0], 200,
                      "| 16 | 200 | 400 | 600 | 0.33 | %.2f |  | 0.67 | 16 MiB | 16 MiB | 16 MiB |\n",
                      bounds[0]);
        std::snprintf(
            lines[1], 200,
            "| 33 | 800 | does not fit | 1200 | 0.67 | %.2f |  |  | 33 MiB | about 3.00 GiB | 33 MiB |\n",
            bounds[1]);
        CHECK(
            efficiency_markdown(plan, results) ==
            std::string("| tokens | classic, ms | materialised, ms | sparse, ms | speed-up over classic | by "
                        "FLOPs | share | over materialised | peak: classic | materialised | sparse |\n"
                        "|---|---|---|---|---|---|---|---|---|---|---|\n") +
                lines[0] + lines[1]);
        // 16 is the longest length at which all three ran.
        CHECK(without_shares(parts_markdown(plan, results)) ==
              "| part, ms at 16 tokens | classic | materialised | sparse |\n"
              "|---|---|---|---|\n"
              "| projections |  |  |  |\n"
              "| indexer projections |  |  |  |\n"
              "| indexer scores and selection |  |  | 12.5 |\n"
              "| attention | 150 | 300 | 450 |\n"
              "| alignment loss |  |  |  |\n"
              "| experts |  |  |  |\n"
              "| head |  |  |  |\n"
              "| optimizer |  |  |  |\n"
              "| other |  |  |  |\n");
    }
    plan.stages = {StepKind::forward, StepKind::train};  // of both, training
    CHECK(parts_markdown(plan, results_without_long_materialised(plan, StepKind::forward)) == "");
    plan.variants = {AttentionVariant::classic, AttentionVariant::sparse};
    CHECK(parts_markdown(plan, results_without_long_materialised(plan, StepKind::train))
              .find("| part, ms at 33 tokens | classic | sparse |\n") == 0);
}

TEST_CASE("efficiency: a run renews its page, and refuses one without the markers before it measures") {
    const TemporaryFolder folder;
    EfficiencyPlan plan = tiny_plan();
    plan.folder = folder / "results";
    plan.markdown = folder / "page.md";
    write_file_atomic(plan.markdown, "<!-- efficiency -->\n<!-- /efficiency -->\n");
    check_error(plan.markdown + ": want a line <!-- parts --> and after it a line <!-- /parts -->",
                [&] { run_efficiency(plan); });
    CHECK(!std::filesystem::exists(plan.folder));
    write_file_atomic(
        plan.markdown,
        "a\n<!-- efficiency -->\nold\n<!-- /efficiency -->\nb\n<!-- parts -->\n<!-- /parts -->\n");
    CHECK(run_efficiency(plan) == 0);
    const std::string page = read_file(plan.markdown);
    CHECK(page.find("a\n<!-- efficiency -->\n| tokens | classic, ms |") == 0);
    CHECK(page.find("<!-- parts -->\n| part, ms at 33 tokens | classic |") != std::string::npos);
    CHECK(page.find("old") == std::string::npos);
}

TEST_CASE("efficiency: the command line") {
    const EfficiencyPlan plan = *parse(
        "--device cpu --preset small --seq_lengths 33,16,4096 --top_k_ratio 0.5 --d_ff 48 --memory_limit "
        "1.5G");
    CHECK(plan.lengths == std::vector<int64_t>{16, 33, 4096});
    CHECK(plan.memory_limit == int64_t{3} << 29);
    CHECK(plan.tokens_per_step == 32 * 64);
    CHECK(plan.markdown.empty());
    CHECK(parse("--device cpu --markdown page.md")->markdown == "page.md");
    CHECK(plan.top_k_of(33) == 17);
    const ExperimentConfig config = plan.config_of(AttentionVariant::sparse, 16);
    CHECK(config.model.d_ff == 48);
    CHECK(config.model.d_model == 128);
    CHECK(config.batch_size == 128);
    CHECK(config.model.is_sparse());
    CHECK(plan.config_of(AttentionVariant::materialised, 4096).batch_size == 1);
    CHECK(plan.config_of(AttentionVariant::materialised, 4096).model.materialised);

    const auto refused = [](const std::string& arguments, const std::string& message) {
        INFO(arguments);
        check_error(message, [&] { parse(arguments); });
    };
    refused("--top_k 4 --top_k_ratio 0.5", "top_k and top_k_ratio exclude each other; give one of them");
    refused("--top_k_ratio 1.5", "top_k_ratio: 1.5, want more than 0 and at most 1");
    refused("--top_k_ratio 0", "top_k_ratio: 0, want more than 0 and at most 1");
    refused("--top_k 0", "top_k: 0, want at least 1");
    refused("--seq_lengths 12,x",
            "seq_lengths: '12,x', want whole numbers of at least 1, separated by commas");
    refused("--seq_lengths 12,", "seq_lengths: '12,', want whole numbers of at least 1, separated by commas");
    refused("--seq_lengths 12,8,12", "seq_lengths: '12,8,12', 12 appears twice");
    refused("--variants dense", "variants: 'dense', want a list of classic, materialised and sparse");
    refused("--stages backward", "stages: 'backward', want a list of forward and train");
    refused("--steps 0", "steps: 0, want at least 1");
    refused("--memory_limit 8Q", "memory_limit: '8Q', want a size such as 512M or 8G");
    refused("--preset huge", "preset: 'huge', want small, medium, large or long");
    refused("--n_heads 3",
            "d_model: 256 is not divisible by n_heads 3; choose d_model = 258 or another n_heads");
    refused("--topk 3", "unknown argument --topk, did you mean --top_k? (--help lists all)");
}

TEST_CASE("profile_efficiency: the program, and Ctrl-C in the middle") {
    const TemporaryFolder folder;
    const std::string program = testing::source_dir() + "/tools/profile_efficiency";
    std::string output;
    CHECK(run_command(program + " --help", output) == 0);
    CHECK(output.find("--top_k_ratio") != std::string::npos);
    CHECK(output.find("Exit codes") != std::string::npos);
    CHECK(run_command(program + " --top_k 3 --top_k_ratio 0.5", output) == 2);
    CHECK(output == "profile_efficiency: top_k and top_k_ratio exclude each other; give one of them\n");

    const std::string run =
        program +
        " --device cpu --threads 1 --preset small --vocab_size 64 --seq_lengths 16,33 --top_k 8 "
        "--tokens_per_step 64 --steps 100000 --out " +
        (folder / "out");
    // A machine busy with other things may not have reached the first step within the shorter times.
    nlohmann::ordered_json json;
    for (const char* seconds : {"4", "12", "40"}) {
        CHECK(run_command(std::string("timeout --preserve-status -s INT ") + seconds + " " + run, output) ==
              130);
        if (output.find("interrupted; what had been measured is there") == std::string::npos) continue;
        json = read_json(folder / "out/efficiency.json");
        if (!json["points"][0]["train"].is_null()) break;
    }
    REQUIRE(!json.is_null());
    CHECK(json["interrupted"] == true);
    CHECK(json["points"][0]["train"]["all_seconds"].size() > 1);
    CHECK(json["points"][5]["train"].is_null());
    CHECK(json["points"][5]["skipped"] == "interrupted before");
    CHECK(std::filesystem::exists(folder / "out/efficiency.png"));
}
