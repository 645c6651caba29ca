#include "framework/runs/claims.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "framework/core/error.h"
#include "framework/core/version.h"
#include "framework/io/atomic_file.h"
#include "framework/io/folder_lock.h"
#include "framework/io/marked_section.h"
#include "framework/program/interrupt.h"
#include "framework/program/prepare_machine.h"
#include "framework/program/progress.h"
#include "framework/report/results.h"
#include "framework/runs/claims_figures.h"
#include "framework/runs/experiment.h"
#include "framework/runs/study.h"
#include "framework/train/evaluate.h"
#include "framework/train/run_folder.h"

namespace sieve {
namespace {

constexpr int64_t first_seed = 42;

// A model that trains in a second, with what tells the runs of the table apart kept as far as it can be.
void make_tiny(ExperimentConfig& c, bool steps_in_turns) {
    ModelConfig& m = c.model;
    m.d_model = 32, m.n_heads = 2, m.d_ff = 32, m.indexer_dim = 8, m.vocab_size = 300;
    m.n_layers = std::min<int64_t>(m.n_layers, 4);
    c.learning_rate = 1e-2;
    c.classic_steps = c.sparse_steps = 600, c.warmup_steps = std::min<int64_t>(c.warmup_steps, 100);
    c.eval_every = 200, c.eval_batches = 4;
    if (steps_in_turns) {
        m.max_seq_len = std::max<int64_t>(m.max_seq_len / 8, 16), m.sparse_top_k = 8;
        return;
    }
    c.batch_size = 4, m.max_seq_len = std::min<int64_t>(m.max_seq_len, 256);
    m.sparse_top_k = std::min<int64_t>(m.sparse_top_k.of(0), m.max_seq_len / (m.max_seq_len > 128 ? 32 : 4));
}

constexpr const char* both_variants = "both";  // RunRecord::variant of steps in turns

// The run, and before it the classic one that it goes on from.
std::vector<StudyRun> trainings_of(const ClaimRun& run, const ClaimsCommand& command, int64_t seed) {
    return runs_of(
        {.folder = command.results_dir, .base = config_of(run, command, seed), .variants = {run.variant}});
}

std::string base_name(const StudyRun& run) {
    return std::filesystem::path(run.folder).filename().string();
}

std::string name_of_run(const ExperimentConfig& config, AttentionKind variant, bool steps_in_turns) {
    const std::string name = base_name(runs_of({.base = config, .variants = {variant}}).back());
    return steps_in_turns ? "steps_in_turns_" + name : name;
}

// What this program calls the run of a line.
std::string name_now(const RunRecord& record) {
    const bool steps_in_turns = record.variant == both_variants;
    try {
        return name_of_run(
            config_from_json(nlohmann::ordered_json::parse(record.config), record.run),
            steps_in_turns ? AttentionKind::sparse : from_name<AttentionKind>("variant", record.variant),
            steps_in_turns);
    } catch (const Error&) {
        return record.run;  // of a program that has other keys: no run of this one
    }
}

std::string machine_text(const MachineUsed& m) {
    return fmt::format("{}, {} {}, {}", m.device, m.threads, m.threads == 1 ? "thread" : "threads",
                       m.processor);
}

std::map<std::string, double> metrics_of(const TrainingHistory& history, const ModelConfig& model) {
    const Measurement measured = history.of_run();
    const std::vector<double>& losses = history["val_loss"];
    std::map<std::string, double> metrics{
        {"finished", 1},
        {"loss_above_best", losses.back() / *std::min_element(losses.begin(), losses.end()) - 1}};
    for (const MetricKey metric : run_metrics())
        if (!std::isnan(measured[metric])) metrics[metric->name] = measured[metric];
    if (model.is_sparse()) {
        const Sparsity sparsity = sparsity_of(model);
        metrics["sparsity_square"] = sparsity.square, metrics["sparsity_causal"] = sparsity.causal;
    }
    return metrics;
}

RunRecord record_of(const StudyRun& run, Device device) {
    RunRecord record{.run = base_name(run),
                     .variant = name_of(run.variant),
                     .seed = run.config.seed,
                     .config = config_to_json(run.config).dump(),
                     .metrics = {{"finished", 0}}};
    RunSession session = this_session(device);
    if (run.status == RunStatus::finished) {
        const Manifest manifest = finished_run(run.folder).value();
        const TrainingHistory history = read_training_results(run.folder + "/training_results.json");
        record.metrics = metrics_of(history, run.config.model);
        record.seconds = history.total_seconds;
        record.data = manifest.data, record.corpus = manifest.fingerprint.corpus;
        session = manifest.sessions.back();
    }
    record.commit = session.commit, record.machine = machine_text(session.machine);
    return record;
}

// The tensors' peak in a step of the stage that trains the language model.
int64_t step_bytes(ExperimentConfig config, AttentionKind variant, const Dataset& data, Device device) {
    config.model.attention = variant;
    config.warmup_steps = 0;
    PlannedVariant planned{.config = config, .device = device};
    estimate(planned, data);
    return planned.trial_bytes;
}

RunRecord record_steps_in_turns(const ClaimRun& run, const ClaimsCommand& command, int64_t seed,
                                Device device) {
    const auto start = std::chrono::steady_clock::now();
    ExperimentConfig config = config_of(run, command, seed);
    RunRecord record{.run = name_of_run(run, command, seed),
                     .variant = both_variants,
                     .seed = seed,
                     .config = config_to_json(config).dump()};
    const Dataset data = load_data(config);
    const PairedSteps pairs = time_in_pairs(config, data, device);
    const auto classic_bytes = static_cast<double>(step_bytes(config, AttentionKind::classic, data, device)),
               sparse_bytes = static_cast<double>(step_bytes(config, AttentionKind::sparse, data, device));
    record.metrics = {{"speedup", pairs.speedup().median},
                      {"classic_step_seconds", quartiles_of(pairs.classic).median},
                      {"sparse_step_seconds", quartiles_of(pairs.sparse).median},
                      {"classic_step_bytes", classic_bytes},
                      {"sparse_step_bytes", sparse_bytes},
                      {"memory_change", sparse_bytes / classic_bytes - 1}};
    const RunSession session = this_session(device);
    record.commit = session.commit, record.machine = machine_text(session.machine);
    record.data = data.description(), record.corpus = data.fingerprint().corpus;
    record.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return record;
}

bool asked_for(const Claim& claim, const ClaimsCommand& command) {
    return command.only.empty() || claim.name == command.only;
}

void check(const ClaimsCommand& command) {
    std::string names;
    for (const Claim& claim : claims()) {
        if (claim.name == command.only && !claim.rows.empty()) return;
        if (claim.name == command.only)
            fail_usage(fmt::format("only: {} is not built yet; missing: {}", claim.name, claim.not_built));
        names += (names.empty() ? "" : ", ") + claim.name;
    }
    if (!command.only.empty()) fail_usage(fmt::format("only: '{}', want one of {}", command.only, names));
}

void write_page(const ClaimsCommand& command, const RunRecords& records) {
    for (const ClaimFigure& figure : claims_figures(command, records))
        figure.figure.save(command.out + "/results/" + figure.file);
    write_file_atomic(command.out + "/results.md", claims_page(command, records));
}

// The runs of --quick test this build: what another one left there must not be taken for them.
void forget_other_builds(const ClaimsCommand& command) {
    const std::string runs = command.out + "/results/runs.jsonl", note = command.out + "/results/build",
                      build = build_hash();
    if (!build.empty() && std::filesystem::exists(note) && read_file(note) == build) return;
    if (std::filesystem::exists(runs)) {
        fmt::print("{}: the runs there are of another build of this program; they are done anew\n", runs);
        remove_file(runs);
    }
    for (int64_t seed = first_seed; seed < first_seed + command.seeds; ++seed)
        for (const Claim& claim : claims())
            for (const ClaimRow& row : claim.rows)
                for (const ClaimRun& run : runs_of_row(row))
                    for (const StudyRun& training : trainings_of(run, command, seed))
                        std::filesystem::remove_all(training.folder);
    write_file_atomic(note, build);
}

// What there is to run, each run once: seed by seed, and within a seed claim by claim, so that every claim
// has a first number early.
class ClaimsRunner {
  public:
    explicit ClaimsRunner(const ClaimsCommand& command) : command_(command), records_(read_records(command)) {
        for (int64_t seed = first_seed; seed < first_seed + command.seeds; ++seed)
            for (const Claim& claim : claims())
                if (asked_for(claim, command)) add(claim, seed);
    }

    // False when it was interrupted.
    bool run() {
        ExperimentConfig machine;
        machine.device = command_.device, machine.threads = command_.threads;
        device_ = prepare_machine(machine);
        fmt::print("  records     {}/results/runs.jsonl: {} of the runs stand there and are not repeated\n",
                   command_.out, recorded_);
        fmt::print("  to do       {} trainings, {} pairs of models whose steps take turns\n",
                   trainings_.size(), steps_.size());
        std::fflush(stdout);
        if (!time_steps()) return false;
        const bool complete = train_runs({.runs = trainings_,
                                          .label = [](const StudyRun& r) { return base_name(r); },
                                          .after_run = [&] { note_results(); }},
                                         machine);
        note_results();
        return complete;
    }

    const RunRecords& records() const { return records_; }
    bool any_failed() const {
        return std::any_of(trainings_.begin(), trainings_.end(),
                           [](const StudyRun& run) { return run.status == RunStatus::failed; });
    }

  private:
    struct StepsInTurns {
        ClaimRun run;
        int64_t seed;
    };

    void add(const Claim& claim, int64_t seed) {
        for (const ClaimRow& row : claim.rows) {
            if (row.long_only && command_.quick) continue;
            for (const ClaimRun& run : runs_of_row(row)) add(run, seed);
        }
    }

    void add(const ClaimRun& run, int64_t seed) {
        const std::string name = name_of_run(run, command_, seed);
        if (!seen_.insert(name).second) return;
        if (records_.find(name)) {
            ++recorded_;
        } else if (run.steps_in_turns) {
            steps_.push_back({run, seed});
        } else {
            for (StudyRun& training : trainings_of(run, command_, seed)) add(std::move(training));
        }
    }

    // The classic model that a run goes on from may have its line; its weights are wanted all the same.
    void add(StudyRun training) {
        const bool there = std::any_of(trainings_.begin(), trainings_.end(),
                                       [&](const StudyRun& run) { return run.folder == training.folder; });
        seen_.insert(base_name(training));
        if (!there) trainings_.push_back(std::move(training));
    }

    bool time_steps() {
        for (size_t i = 0; i < steps_.size(); ++i) {
            if (interrupted()) return false;
            const std::string name = name_of_run(steps_[i].run, command_, steps_[i].seed);
            fmt::print("steps in turns {} of {}: {}\n", i + 1, steps_.size(), name);
            std::fflush(stdout);
            records_.add(record_steps_in_turns(steps_[i].run, command_, steps_[i].seed, device_));
        }
        return true;
    }

    // A divergence is a result; a run that failed otherwise may succeed when it is tried again.
    void note_results() {
        for (const StudyRun& run : trainings_) {
            const bool result = run.status == RunStatus::finished || run.error == "diverged";
            if (result && !records_.find(base_name(run))) records_.add(record_of(run, device_));
        }
        write_page(command_, records_);
    }

    const ClaimsCommand& command_;
    RunRecords records_;
    Device device_;
    std::set<std::string> seen_;
    int64_t recorded_ = 0;
    std::vector<StepsInTurns> steps_;
    std::vector<StudyRun> trainings_;
};

void write_pages(const ClaimsCommand& command, const RunRecords& records) {
    write_page(command, records);
    if (!command.readme.empty())
        replace_marked_section(command.readme, "claims", claims_summary(command, records));
    fmt::print("{}", claims_summary(command, records));
    fmt::print("results are in {}/results.md\n", command.out);
}

// What --quick asks of the numbers; says each.
int check_signs(const ClaimsCommand& command, const RunRecords& records) {
    int64_t failed = 0, checked = 0;
    for (const Claim& claim : claims())
        for (const ClaimRow& row : claim.rows) {
            if (!row.quick || !asked_for(claim, command)) continue;
            const Interval number = number_of(row, command, records);
            const bool right = row.quick->holds(number.mean);
            fmt::print("{} {}, {}: {:.4g}, want {:g} to {:g}\n", right ? "ok    " : "FAILED", claim.name,
                       row.setting, number.mean, row.quick->least, row.quick->most);
            ++checked, failed += !right;
        }
    fmt::print("signs of the main claims:\n{} passed, {} failed\n", checked - failed, failed);
    return failed ? static_cast<int>(ErrorKind::failure) : 0;
}

std::set<int64_t> seeds_in(const RunRecords& records) {
    std::set<int64_t> seeds;
    for (const auto& [name, record] : records.all()) seeds.insert(record.seed);
    return seeds;
}

std::vector<double> numbers(const ClaimRow& row, const std::vector<std::pair<double, double>>& pairs) {
    std::vector<double> values;
    values.reserve(pairs.size());
    for (const auto& [run, reference] : pairs)
        values.push_back(row.comparison == Comparison::value        ? run
                         : row.comparison == Comparison::difference ? run - reference
                                                                    : run / reference - 1);
    return values;
}

Interval gap_of(const std::vector<std::pair<double, double>>& pairs) {
    std::vector<double> runs, references;
    runs.reserve(pairs.size()), references.reserve(pairs.size());
    for (const auto& [run, reference] : pairs) runs.push_back(run), references.push_back(reference);
    Interval gap{.mean = gap_in_deviations(runs, references)};
    if (!std::isnan(gap.mean)) gap.n = static_cast<int64_t>(pairs.size());
    return gap;
}

const double* metric_in(const RunRecord* record, const std::string& metric) {
    if (!record) return nullptr;
    const auto at = record->metrics.find(metric);
    return at == record->metrics.end() ? nullptr : &at->second;
}

}  // namespace

std::vector<ClaimRun> runs_of_row(const ClaimRow& row) {
    if (row.comparison == Comparison::value) return {row.run};
    return {row.run, row.reference};
}

ExperimentConfig config_of(const ClaimRun& run, const ClaimsCommand& command, int64_t seed) {
    ExperimentConfig config;
    apply_preset(config, run.preset);
    for (const auto& [key, value] : run.keys) set_config_value(config, key, value);
    if (command.quick) make_tiny(config, run.steps_in_turns);
    config.seed = seed;
    if (config.task == Task::text) config.data = command.data;  // the recall task makes its own
    config.cache_dir = command.cache_dir, config.device = command.device, config.threads = command.threads;
    return config;
}

std::string name_of_run(const ClaimRun& run, const ClaimsCommand& command, int64_t seed) {
    return name_of_run(config_of(run, command, seed), run.variant, run.steps_in_turns);
}

RunRecords read_records(const ClaimsCommand& command) {
    return RunRecords(command.out + "/results/runs.jsonl", name_now);
}

std::vector<double> numbers_of(const ClaimRun& run, const char* metric, const ClaimsCommand& command,
                               const RunRecords& records) {
    std::vector<double> values;
    for (const int64_t seed : seeds_in(records))
        if (const double* value = metric_in(records.find(name_of_run(run, command, seed)), metric))
            values.push_back(*value);
    return values;
}

Interval number_of(const ClaimRow& row, const ClaimsCommand& command, const RunRecords& records) {
    const bool alone = row.comparison == Comparison::value;
    std::vector<std::pair<double, double>> pairs;
    for (const int64_t seed : seeds_in(records)) {
        const RunRecord* run = records.find(name_of_run(row.run, command, seed));
        const RunRecord* reference = alone ? run : records.find(name_of_run(row.reference, command, seed));
        const double *a = metric_in(run, row.metric), *b = metric_in(reference, row.metric);
        if (a && b && run->corpus == reference->corpus) pairs.emplace_back(*a, *b);
    }
    return row.comparison == Comparison::gap ? gap_of(pairs) : interval_of(numbers(row, pairs));
}

ClaimVerdict judge_row(const Interval& number, Comparison comparison, const Range& claimed) {
    using enum ClaimVerdict;
    if (number.n == 0) return not_run;
    if (comparison == Comparison::gap) {
        if (number.n < 3) return undecided;
        return claimed.holds(number.mean) ? holds : does_not;
    }
    if (std::isnan(number.half_width)) return undecided;
    if (claimed.holds(number.lower()) && claimed.holds(number.upper())) return holds;
    return number.upper() < claimed.least || number.lower() > claimed.most ? does_not : undecided;
}

ClaimVerdict judge_claim(const std::vector<ClaimVerdict>& rows) {
    using enum ClaimVerdict;
    const auto count = [&](ClaimVerdict v) {
        return static_cast<size_t>(std::count(rows.begin(), rows.end(), v));
    };
    if (rows.empty()) return not_built;
    if (count(not_run) == rows.size()) return not_run;
    if (count(holds) == rows.size()) return holds;
    if (count(does_not) == rows.size()) return does_not;
    return count(holds) && count(does_not) ? depends : undecided;
}

int run_claims(const ClaimsCommand& command) {
    check(command);
    if (!command.readme.empty()) marked_section(command.readme, "claims");  // refused before hours are spent
    make_folder(command.out + "/results");
    if (command.report) {
        write_pages(command, read_records(command));
        return 0;
    }
    if (!std::filesystem::exists(command.data))
        fail_bad_file(fmt::format(
            "{}: not found; make corpus fetches the text, or give another one with --data", command.data));
    make_folder(command.results_dir);
    const FolderLock lock(command.results_dir);
    if (command.quick) forget_other_builds(command);
    catch_interrupts(finishing_step);
    fmt::print("The claims{}, {} seeds\n", command.quick ? ", tiny models" : "", command.seeds);
    ClaimsRunner runner(command);
    const bool complete = runner.run();
    write_pages(command, runner.records());
    if (!complete) {
        fmt::print("\ninterrupted; the state is saved. To go on: the same command again\n");
        return interrupted();
    }
    if (runner.any_failed()) return static_cast<int>(ErrorKind::failure);
    return command.quick ? check_signs(command, runner.records()) : 0;
}

}  // namespace sieve
