#include "framework/train/metrics_log.h"

#include <bit>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "framework/io/atomic_file.h"
#include "tests/support/python.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

MetricsRow row_of(StageKind stage, int64_t step) {
    MetricsRow row{.stage = stage, .step = step};
    Measurement& m = row.numbers;
    m["loss"] = 5.0 - static_cast<double>(step) / 8;
    m["learning_rate"] = 3e-3, m["grad_norm"] = 0.1;
    m["tokens_per_second"] = 1e6 / 3, m["seconds"] = 0.1;
    if (stage == StageKind::sparse && step % 2 == 0) {
        m["val_loss"] = 4, m["val_accuracy"] = 0.25, m["val_perplexity"] = 54.6, m["val_bits_per_byte"] = 1.5;
        m["indexer_kl"] = 0.5, m["indexer_recall"] = 0.75, m["indexer_covered_mass"] = 0.875;
        m["indexer_precision_recall"] = 0.9375;
    }
    return row;
}

void log_run(MetricsLog& log, int64_t warmup_steps, int64_t sparse_from, int64_t sparse_to) {
    for (int64_t step = 1; step <= warmup_steps; ++step) log.append(row_of(StageKind::warmup, step));
    for (int64_t step = sparse_from; step <= sparse_to; ++step) log.append(row_of(StageKind::sparse, step));
}

std::vector<std::string> lines_of(const std::string& path) {
    std::istringstream text(read_file(path));
    std::vector<std::string> lines;
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    return lines;
}

std::vector<std::string> cells_of(const std::string& line) {
    std::vector<std::string> cells(1);
    for (const char c : line) {
        if (c == ',')
            cells.emplace_back();
        else
            cells.back() += c;
    }
    return cells;
}

// "warm-up 1", "warm-up 2", "sparse 1", ...
std::vector<std::string> steps_in(const std::string& folder) {
    std::vector<std::string> steps;
    for (const MetricsRow& row : read_metrics(folder))
        steps.push_back(std::string(name_of(row.stage)) + " " + std::to_string(row.step));
    return steps;
}

}  // namespace

TEST_CASE("metrics log: one line a step, in JSON and in CSV, with the validation numbers where evaluated") {
    const TemporaryFolder temporary;
    const std::string folder = temporary.path().string();
    {
        MetricsLog log(folder, false, {});
        log_run(log, 1, 1, 2);
    }
    const auto lines = lines_of(folder + "/metrics.jsonl");
    REQUIRE(lines.size() == 3);
    const auto first = nlohmann::json::parse(lines[0]), last = nlohmann::json::parse(lines[2]);
    CHECK(first.at("stage") == "warm-up");
    CHECK(first.at("step") == 1);
    CHECK(first.at("loss") == 4.875);
    CHECK(first.at("learning_rate") == 3e-3);
    CHECK(first.at("tokens_per_second") == 1e6 / 3);  // every bit of it
    CHECK(first.at("time").get<double>() > 1e9);
    CHECK(!first.contains("val_loss"));
    CHECK(last.at("stage") == "sparse");
    CHECK(last.at("indexer_covered_mass") == 0.875);
    CHECK(last.at("indexer_precision_recall") == 0.9375);
    const auto table = lines_of(folder + "/metrics.csv");
    REQUIRE(table.size() == 4);
    CHECK(table[0].find("stage,step,time,loss,learning_rate,grad_norm,tokens_per_second,seconds,val_loss,") ==
          0);
    const std::vector<std::string> columns = cells_of(table[0]);
    CHECK(columns.size() == 3 + logged_metrics().size());
    for (const size_t row : {1, 3}) {
        const std::vector<std::string> cells = cells_of(table[row]);
        REQUIRE(cells.size() == columns.size());
        const bool evaluated = row == 3;
        std::map<std::string, std::string> want = {{"stage", evaluated ? "sparse" : "warm-up"},
                                                   {"step", evaluated ? "2" : "1"},
                                                   {"loss", evaluated ? "4.75" : "4.875"},
                                                   {"learning_rate", "0.003"},
                                                   {"grad_norm", "0.1"},
                                                   {"tokens_per_second", "333333.3333333333"},
                                                   {"seconds", "0.1"}};
        if (evaluated)
            want.insert({{"val_loss", "4"},
                         {"val_accuracy", "0.25"},
                         {"val_perplexity", "54.6"},
                         {"val_bits_per_byte", "1.5"},
                         {"indexer_kl", "0.5"},
                         {"indexer_recall", "0.75"},
                         {"indexer_covered_mass", "0.875"},
                         {"indexer_precision_recall", "0.9375"}});
        for (size_t i = 0; i < cells.size(); ++i)
            if (columns[i] != "time") CHECK_MESSAGE(cells[i] == want[columns[i]], columns[i]);
    }
    CHECK(event_files(folder).empty());
}

TEST_CASE("metrics log: going on keeps the checkpoint's steps only, and drops a torn line") {
    const TemporaryFolder temporary;
    const std::string folder = temporary.path().string();
    {
        MetricsLog log(folder, false, {});
        log_run(log, 2, 1, 5);
    }
    std::ofstream(folder + "/metrics.jsonl", std::ios::app) << "{\"stage\": \"sparse\", \"step\": 6, \"ti";
    CHECK(read_metrics(folder).size() == 7);
    {
        MetricsLog log(folder, false, rows_until(read_metrics(folder), StageKind::sparse, 3));
        log_run(log, 0, 4, 6);
    }
    const std::vector<std::string> all = {"warm-up 1", "warm-up 2", "sparse 1", "sparse 2",
                                          "sparse 3",  "sparse 4",  "sparse 5", "sparse 6"};
    CHECK(steps_in(folder) == all);
    CHECK(lines_of(folder + "/metrics.csv").size() == 9);
    for (const std::string& line : lines_of(folder + "/metrics.jsonl"))
        CHECK_NOTHROW(nlohmann::json::parse(line));
    // A row that was read back and written again is the same row.
    const auto rows = read_metrics(folder);
    CHECK(rows[3].numbers["indexer_recall"] == 0.75);
    CHECK(rows[3].numbers["loss"] == 4.75);
    CHECK(std::isnan(rows[2].numbers["val_loss"]));
    // A checkpoint inside the warm-up: what the sparse stage logged is later.
    CHECK(rows_until(rows, StageKind::warmup, 1).size() == 1);
    CHECK(rows_until(rows, StageKind::classic, 9).empty());
}

TEST_CASE("metrics log: damaged lines, zeros of a power cut and missing files are no obstacle") {
    const TemporaryFolder temporary;
    const std::string folder = temporary.path().string();
    CHECK(read_metrics(folder).empty());
    write_file_atomic(folder + "/metrics.jsonl",
                      "[1, 2]\n{\"stage\": \"other\", \"step\": 1, \"time\": 1}\n" + std::string(9, '\0') +
                          "\n{\"stage\": \"sparse\", \"step\": 4, \"time\": 1}\n{\"stage\": \"sparse\", "
                          "\"step\": 5, \"time\": 1}");
    CHECK(steps_in(folder) == std::vector<std::string>{"sparse 4"});
}

TEST_CASE("metrics log: a row that was read back is the row that was logged, bit for bit") {
    const TemporaryFolder temporary;
    const std::string folder = temporary.path().string();
    const double inf = std::numeric_limits<double>::infinity();
    const std::vector<double> odd = {0.0, -0.0, 5e-324, 1e308, 1.0 / 3, 1e15, inf, -inf, NAN};
    {
        MetricsLog log(folder, true, {});
        for (size_t i = 0; i < odd.size(); ++i) {
            MetricsRow row{.stage = StageKind::sparse, .step = static_cast<int64_t>(i) + 1};
            for (const MetricKey metric : logged_metrics()) row.numbers[metric] = odd[i];
            log.append(row);
        }
    }
    const std::vector<MetricsRow> rows = read_metrics(folder);
    const auto lines = lines_of(folder + "/metrics.csv");
    REQUIRE(rows.size() == odd.size());
    for (size_t i = 0; i < odd.size(); ++i)
        for (const MetricKey metric : logged_metrics()) {
            INFO(metric->name << " " << odd[i]);
            CHECK(std::bit_cast<uint64_t>(rows[i].numbers[metric]) == std::bit_cast<uint64_t>(odd[i]));
            const std::string cell = lines[i + 1].substr(lines[i + 1].rfind(',') + 1);
            if (std::isnan(odd[i]))
                CHECK(cell.empty());
            else
                CHECK(std::bit_cast<uint64_t>(std::strtod(cell.c_str(), nullptr)) ==
                      std::bit_cast<uint64_t>(odd[i]));
        }
    CHECK(lines[7].ends_with(",inf,inf"));
    CHECK(lines_of(folder + "/metrics.jsonl")[6].find("\"loss\": \"inf\"") != std::string::npos);
}

TEST_CASE("metrics log: TensorBoard shows each step once, also after going on") {
    const auto python = python_with("tensorboard");
    if (!python) return skip("no Python with tensorboard (PyPI: tensorboard)");
    const TemporaryFolder temporary;
    const std::string folder = temporary.path().string();
    {
        MetricsLog log(folder, true, {});
        log_run(log, 2, 1, 5);
    }
    write_file_atomic(folder + "/events.out.tfevents.1.sieve", "what another run left");
    {
        MetricsLog log(folder, true, rows_until(read_metrics(folder), StageKind::sparse, 3));
        log_run(log, 0, 4, 6);
    }
    CHECK(event_files(folder).size() == 1);
    std::string output;
    const std::string program =
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
        "events = EventAccumulator('.').Reload()\n"
        "steps = lambda tag: [s.step for s in events.Scalars(tag)]\n"
        "assert steps('train/loss') == [1, 2, 3, 4, 5, 6], steps('train/loss')\n"
        "assert steps('warm-up/loss') == [1, 2]\n"
        "assert steps('val/accuracy') == [2, 4, 6]\n"
        "assert [s.value for s in events.Scalars('indexer/recall')] == [0.75] * 3\n"
        "assert [s.value for s in events.Scalars('train/loss')] == [5 - s / 8 for s in range(1, 7)]\n"
        "print(events.Tags()['scalars'])\n";
    const int status = run_python(*python, program, folder, output);
    INFO(output);
    CHECK(status == 0);
    CHECK(output.find("warm-up/grad_norm") != std::string::npos);
}
