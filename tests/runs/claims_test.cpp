#include "framework/runs/claims.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "framework/core/version.h"
#include "framework/io/atomic_file.h"
#include "tests/support/python.h"
#include "tests/support/sanitized.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

const ClaimsCommand full{.out = "docs", .results_dir = "results/claims", .data = "data/corpus"};
const ClaimsCommand quick{.quick = true, .out = "quick", .results_dir = "quick", .data = "data/excerpt"};

const Claim& claim_named(const std::string& name) {
    const auto at = std::find_if(claims().begin(), claims().end(),
                                 [&](const Claim& claim) { return claim.name == name; });
    REQUIRE(at != claims().end());
    return *at;
}

RunRecord record(const std::string& run, int64_t seed, const std::string& metric, double value,
                 const std::string& corpus = "a") {
    return {.run = run,
            .variant = "sparse",
            .seed = seed,
            .config = R"({"seed":1})",
            .metrics = {{metric, value}},
            .seconds = 60,
            .commit = "0123",
            .machine = "cpu, 2 threads, a processor",
            .data = "a text; 5 tokens",
            .corpus = corpus};
}

Interval interval(double mean, double half_width, int64_t n = 3) {
    return {.n = n, .mean = mean, .half_width = half_width};
}

}  // namespace

// The values are those of printed tables of Student's t.
TEST_CASE("interval: Student's t") {
    const std::vector<std::pair<int64_t, double>> table{{1, 12.706}, {2, 4.303},  {3, 3.182},  {4, 2.776},
                                                        {5, 2.571},  {10, 2.228}, {30, 2.042}, {120, 1.980}};
    for (const auto& [degrees, t] : table) {
        CAPTURE(degrees);
        CHECK(std::abs(student_t95(degrees) - t) < 0.0006);
    }
}

TEST_CASE("interval: mean and half width by hand") {
    const Interval three = interval_of({1, 2, 3});  // s = 1, 4.303 / sqrt(3)
    CHECK(three.n == 3);
    CHECK(three.mean == 2);
    CHECK(three.half_width == doctest::Approx(2.4841).epsilon(1e-4));
    CHECK(interval_of({1, NAN, 3}).half_width == doctest::Approx(12.706).epsilon(1e-4));  // s = sqrt(2)
    const Interval one = interval_of({5});
    CHECK((one.n == 1 && one.mean == 5 && std::isnan(one.half_width)));
    const Interval none = interval_of({});
    CHECK((none.n == 0 && std::isnan(none.mean) && std::isnan(none.half_width)));
    CHECK(gap_in_deviations({4, 6}, {1, 3}) == doctest::Approx(2.1213).epsilon(1e-4));  // 3 / sqrt(2)
    CHECK(std::isnan(gap_in_deviations({4}, {1})));
}

TEST_CASE("claims: verdicts") {
    using enum ClaimVerdict;
    const auto row = [](const Interval& number, const Range& claimed) {
        return judge_row(number, Comparison::value, claimed);
    };
    CHECK(row(interval(0.03, 0.01), {.most = 0.05}) == holds);
    CHECK(row(interval(0.03, 0.03), {.most = 0.05}) == undecided);
    CHECK(row(interval(0.09, 0.03), {.most = 0.05}) == does_not);
    CHECK(row(interval(-2, 0.5), {.least = 0}) == does_not);
    CHECK(row(interval(0.5, 0.05), {.least = 0.4, .most = 0.6}) == holds);
    CHECK(row(interval(0.5, 0.2), {.least = 0.4, .most = 0.6}) == undecided);
    CHECK(row(interval(0.03, NAN, 1), {.most = 0.05}) == undecided);
    CHECK(row({}, {.most = 0.05}) == not_run);
    const auto gap = [](double value, int64_t n) {
        return judge_row(interval(value, NAN, n), Comparison::gap, {.least = 5});
    };
    CHECK(gap(7, 3) == holds);
    CHECK(gap(4, 3) == does_not);
    CHECK(gap(7, 2) == undecided);

    CHECK(judge_claim({}) == not_built);
    CHECK(judge_claim({not_run, not_run}) == not_run);
    CHECK(judge_claim({holds, holds}) == holds);
    CHECK(judge_claim({does_not, does_not}) == does_not);
    CHECK(judge_claim({holds, does_not, undecided}) == depends);
    CHECK(judge_claim({holds, not_run}) == undecided);
    CHECK(judge_claim({does_not, undecided}) == undecided);
}

TEST_CASE("claims: the table's runs are ones that can be trained, and names tell claims apart") {
    std::set<std::string> names;
    for (const Claim& claim : claims()) {
        CAPTURE(claim.name);
        CHECK(names.insert(claim.name).second);
        CHECK(claim.rows.empty() == !claim.not_built.empty());
        for (const ClaimRow& row : claim.rows) {
            CAPTURE(row.setting);
            for (const ClaimsCommand& command : {full, quick}) {
                validate(config_of(row.run, command, 42));
                if (row.comparison == Comparison::value) continue;
                validate(config_of(row.reference, command, 42));
                CHECK(name_of_run(row.run, command, 42) != name_of_run(row.reference, command, 42));
            }
        }
    }
}

TEST_CASE("claims: a run's name is its configuration and its seed") {
    const ClaimRun classic{.preset = "small", .variant = AttentionKind::classic};
    const auto name = [](const ClaimRun& run, int64_t seed = 42) { return name_of_run(run, full, seed); };
    ClaimRun same = classic, other = classic, sparse = classic, steps = classic;
    same.keys = {{"sparse_top_k", "8"}};  // the classic model has no such key
    other.keys = {{"d_ff", "64"}};
    sparse.variant = AttentionKind::sparse;
    steps.steps_in_turns = true;
    CHECK(name(same) == name(classic));
    for (const ClaimRun& run : {other, sparse, steps}) CHECK(name(run) != name(classic));
    CHECK(name(classic, 43) != name(classic));
    CHECK(name_of_run(classic, quick, 42) != name(classic));
}

// A key that is added since, and has its default, must not rename them: they would be run again.
TEST_CASE("claims: the runs that are on record are found by their names") {
    const TemporaryFolder folder;
    fs::create_directories(folder / "results");
    write_file_atomic(folder / "results/runs.jsonl", read_file(source_dir() + "/docs/results/runs.jsonl"));
    const RunRecords records = read_records({.out = folder.path().string()});
    for (const ClaimRow& row : claim_named("faster").rows) CHECK(number_of(row, full, records).n >= 3);
}

TEST_CASE("claims: runs.jsonl holds what was added, and refuses what is no run") {
    const TemporaryFolder folder;
    const std::string path = folder / "runs.jsonl";
    {
        RunRecords records(path);
        CHECK(records.all().empty());
        records.add(record("one", 42, "val_loss", 4.5));
        records.add(record("two", 43, "val_perplexity", INFINITY));
    }
    const RunRecords records(path);
    CHECK(records.all().size() == 2);
    CHECK(records.find("three") == nullptr);
    const RunRecord* two = records.find("two");
    REQUIRE(two);
    CHECK(two->seed == 43);
    CHECK(std::isinf(two->metrics.at("val_perplexity")));
    CHECK(line_of(*records.find("one")) == line_of(record("one", 42, "val_loss", 4.5)));
    const std::string text = read_file(path);
    write_file_atomic(path, text + line_of(record("one", 42, "val_loss", 4)));
    check_error(path + ":3: the run one stands further up already; remove one of the lines",
                [&] { RunRecords again(path); });
    write_file_atomic(path, text + "{\"run\": 3}\n");
    CHECK_THROWS_WITH(RunRecords{path}, doctest::Contains(":3: no record of a run ("));
    write_file_atomic(path, text + text.substr(0, 40));
    CHECK_THROWS_WITH(RunRecords{path}, doctest::Contains(":3:"));
}

TEST_CASE("claims: a line that is older than a key is still the run that it was") {
    const TemporaryFolder folder;
    const ClaimsCommand command{.out = folder.path().string(), .results_dir = "r", .data = "data/corpus"};
    fs::create_directories(folder / "results");
    const ClaimRun sparse{.preset = "small"}, steps{.preset = "small", .steps_in_turns = true},
        leaking{.preset = "small", .keys = {{"i_know_this_leaks", "true"}}};
    std::string text;
    for (const ClaimRun& run : {sparse, steps, leaking}) {
        ExperimentConfig config = config_of(run, command, 42);
        config.model.attention = run.variant;
        auto json = config_to_json(config);
        if (&run != &leaking && !config.model.leaks) json.erase("i_know_this_leaks");
        RunRecord line = record("a name of old " + std::to_string(text.size()), 42, "val_loss", 4);
        line.config = json.dump();
        if (run.steps_in_turns) line.variant = "both";
        text += line_of(line);
    }
    RunRecord foreign = record("of another program", 42, "val_loss", 4);
    foreign.config = R"({"no such key":1})";
    write_file_atomic(folder / "results/runs.jsonl", text + line_of(foreign));
    const RunRecords records = read_records(command);
    CHECK(records.all().size() == 4);
    for (const ClaimRun& run : {sparse, steps, leaking})
        CHECK(records.find(name_of_run(run, command, 42)) != nullptr);
    CHECK(records.find("of another program") != nullptr);
    CHECK(numbers_of(sparse, "val_loss", command, records) == std::vector<double>{4});
}

TEST_CASE("claims: figures are drawn of what is there, and the page shows those") {
    const TemporaryFolder folder;
    ClaimsCommand command{
        .report = true, .out = folder.path().string(), .results_dir = "r", .data = "data/corpus"};
    const auto figures = [&] {
        std::set<std::string> files;
        for (const auto& entry : fs::directory_iterator(folder / "results"))
            if (entry.path().extension() == ".png") files.insert(entry.path().filename().string());
        return files;
    };
    const auto add = [&](const char* claim, const char* metric) {
        RunRecords records = read_records(command);
        double number = 0.1;
        for (const ClaimRow& row : claim_named(claim).rows)
            for (const int64_t seed : {42, 43, 44})
                if (const std::string name = name_of_run(row.run, command, seed); !records.find(name)) {
                    RunRecord line = record(name, seed, metric, number += 0.02);
                    line.config = config_to_json(config_of(row.run, command, seed)).dump();
                    line.variant = row.run.steps_in_turns ? "both" : std::string(name_of(row.run.variant));
                    records.add(line);
                }
    };
    using Files = std::set<std::string>;
    CHECK(run_claims(command) == 0);
    CHECK(figures() == Files{});
    CHECK(read_file(folder / "results.md").find("## Figures") == std::string::npos);
    add("recall", "answer_accuracy");
    add("faster", "speedup");
    CHECK(run_claims(command) == 0);
    CHECK(figures() == Files{"recall_by_keys.png", "speedup_by_length.png"});
    add("selection_matters", "val_loss");
    CHECK(run_claims(command) == 0);
    CHECK(figures() == Files{"loss_by_selector.png", "recall_by_keys.png", "speedup_by_length.png"});
    const std::string page = read_file(folder / "results.md");
    for (const std::string& file : figures())
        CHECK(page.find("](results/" + file + ")") != std::string::npos);
    CHECK(page.find("![Validation loss at 1024 tokens, 32 keys]") != std::string::npos);
}

// As they come while the runs are done: one number, then another.
TEST_CASE("claims: the page and its figures can be written after every single run") {
    struct {
        const char *claim, *metric;
    } const drawn[] = {
        {"selection_matters", "val_loss"}, {"recall", "answer_accuracy"}, {"grows_with_length", "speedup"}};
    for (const auto& [claim, metric] : drawn) {
        const TemporaryFolder folder;
        const ClaimsCommand command{
            .report = true, .out = folder.path().string(), .results_dir = "r", .data = "data/corpus"};
        fs::create_directories(folder / "results");
        int64_t written = 0;
        for (const int64_t seed : {42, 43})
            for (const ClaimRow& row : claim_named(claim).rows)
                for (const ClaimRun* run : {&row.run, &row.reference}) {
                    RunRecords records = read_records(command);
                    const std::string name = name_of_run(*run, command, seed);
                    if (records.find(name)) continue;
                    RunRecord line = record(name, seed, metric, 0.5);
                    line.config = config_to_json(config_of(*run, command, seed)).dump();
                    line.variant = run->steps_in_turns ? "both" : std::string(name_of(run->variant));
                    records.add(line);
                    CHECK(run_claims(command) == 0);
                    ++written;
                }
        CHECK(written > 5);
    }
}

TEST_CASE("claims: numbers are paired by seed, within one text") {
    const TemporaryFolder folder;
    RunRecords records(folder / "runs.jsonl");
    const ClaimRow& row = claim_named("within_5_percent").rows.front();
    REQUIRE(row.comparison == Comparison::relative);
    CHECK(number_of(row, full, records).n == 0);
    const auto add = [&](const ClaimRun& run, int64_t seed, double loss, const std::string& corpus = "a") {
        records.add(record(name_of_run(run, full, seed), seed, "val_loss", loss, corpus));
    };
    add(row.run, 42, 4.4), add(row.reference, 42, 4.0);
    add(row.run, 43, 6.0), add(row.reference, 43, 5.0);
    add(row.run, 44, 9.0);                                          // without its reference
    add(row.run, 45, 9.0), add(row.reference, 45, 3.0, "another");  // on another text
    const Interval number = number_of(row, full, records);
    CHECK(number.n == 2);
    CHECK(number.mean == doctest::Approx(0.15));                        // of 0.1 and 0.2
    CHECK(number.half_width == doctest::Approx(0.6353).epsilon(1e-3));  // 12.706 * 0.0707 / sqrt(2)
}

TEST_CASE("claims: the page says what was run and what was not, and invents nothing") {
    const TemporaryFolder folder;
    RunRecords records(folder / "runs.jsonl");
    const auto holds_text = [&](const std::string& text) {
        return claims_page(full, records).find(text) != std::string::npos;
    };
    CHECK(holds_text("* runs: 0,"));
    for (const Claim& claim : claims())
        if (claim.rows.empty()) CHECK(holds_text("| not built yet | missing: " + claim.not_built + " |"));
    CHECK(!holds_text("±  "));
    const std::string row = "| faster | small: 64 tokens, k = 32 | speedup | ";
    CHECK(holds_text(row + "0 | not run | at least 1.4 | not run |"));
    const ClaimRun& run = claim_named("faster").rows.front().run;
    records.add(record(name_of_run(run, full, 42), 42, "speedup", 0.9));
    CHECK(holds_text(row + "1 | 0.90 | at least 1.4 | undecided |"));
    records.add(record(name_of_run(run, full, 43), 43, "speedup", 0.92));
    CHECK(holds_text(row + "2 | 0.91 ± 0.13 | at least 1.4 | does not |"));
    CHECK(holds_text("* commits: 0123\n* machine: cpu, 2 threads, a processor\n* data: a text\n"));
    RunRecord elsewhere = record("another", 42, "speedup", 1);
    elsewhere.machine = "cpu, 1 threads, a processor";  // as older lines have it
    records.add(elsewhere);
    CHECK(
        holds_text("* machines: 2\n  * cpu, 1 thread, a processor: 1 run\n"
                   "  * cpu, 2 threads, a processor: 2 runs\n* data: a text\n"));
    CHECK(claims_summary(full, records).find("A sparse step is 1.4") != std::string::npos);
    CHECK(claims_summary(full, records).find("Perplexity") == std::string::npos);
}

TEST_CASE("claims: as a user meets it: interrupted, gone on with, not repeated") {
    const TemporaryFolder folder;
    const std::string out = folder / "out", readme = folder / "README.md";
    write_file_atomic(readme, "above\n<!-- claims -->\n<!-- /claims -->\nbelow\n");
    const std::string command =
        source_dir() + "/experiments/claims --quick --only sparsity --seeds 1 --threads 1 " +
        "--device cpu --data " + source_dir() + "/data/excerpt --cache_dir " + (folder / "cache") +
        " --out " + out + " --results_dir " + (folder / "results") + " --readme " + readme;
    const auto run = [](const std::string& line, int status, const std::string& text) {
        std::string output;
        INFO(line);
        const int got = run_command(line, output);
        INFO(output);
        CHECK(got == status);
        CHECK(output.find(text) != std::string::npos);
    };
    const auto lines = [&] {
        const std::string text = read_file(out + "/results/runs.jsonl");
        return std::count(text.begin(), text.end(), '\n');
    };
    run(command + " & pid=$!; while ! [ -e " + out +
            "/results/runs.jsonl ] && kill -0 $pid; do sleep 0.01; done; kill -s INT $pid; wait $pid",
        130, "To go on: the same command again");
    CHECK(lines() == 1);
    run(command, 0, "1 of the runs stand there");
    CHECK(lines() == 2);
    const std::string page = read_file(out + "/results.md");
    CHECK(page.find("| sparsity | small, of the square | sparsity_square | 1 | 77.93 % |") !=
          std::string::npos);
    run(command, 0, "2 of the runs stand there");
    CHECK(lines() == 2);
    remove_file(out + "/results.md");
    run(command + " --report", 0, "results are in");
    CHECK(read_file(out + "/results.md") == page);
    CHECK(read_file(readme).find("| 40 to 60 % of the attention matrix") != std::string::npos);

    write_file_atomic(out + "/results/build", "another");
    run(command, 0, "/runs.jsonl: the runs there are of another build of this program; they are done anew");
    CHECK(lines() == 2);
    if (!sanitized) CHECK(read_file(out + "/results/build") == build_hash());

    const std::string program = source_dir() + "/experiments/claims ";
    run(program + "--only lost", 2, "only: 'lost', want one of loss, accuracy");
    for (const Claim& claim : claims())
        if (claim.rows.empty())
            run(program + "--only " + claim.name, 2, "is not built yet; missing: " + claim.not_built);
    run(program + "--seeds 0", 2, "seeds: 0, want 1 to 1000");
    run(program + "--readme /nowhere/README.md", 3, "claims: /nowhere/README.md: cannot read");
    run(program + "--data /nowhere --readme " + readme + " --out " + out + " --results_dir " + out, 3,
        "/nowhere: not found; make corpus fetches the text, or give another one with --data");
}
