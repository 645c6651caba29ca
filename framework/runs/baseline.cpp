#include "framework/runs/baseline.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/folder_lock.h"
#include "framework/io/json_file.h"
#include "framework/plot/figure.h"
#include "framework/program/interrupt.h"
#include "framework/program/prepare_machine.h"
#include "framework/report/results.h"
#include "framework/runs/experiment.h"
#include "framework/runs/study.h"

namespace sieve {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t expert_runs = searched_experts.size() * searched_expert_top_k.size();

template <class Values>
VariedKey varied(const char* name, const Values& values) {
    return {.name = name, .values = {values.begin(), values.end()}};
}

struct Search {
    StudyPlan plan;
    StudyOutcome outcome;
};

// Short runs of `base` with other values of some keys; `base` then takes the values of the best.
// False when it was interrupted.
bool search(Search& search, ExperimentConfig& base) {
    fmt::print("\n{}\n", search.plan.title);
    search.outcome = run_study(search.plan);
    if (search.outcome.interrupted) return false;
    print_study(search.plan, search.outcome.runs);
    const StudyRun* best = nullptr;
    for (const StudyRun& run : search.outcome.runs)
        if (run.status == RunStatus::finished &&
            (!best || run.metrics["val_loss"] < best->metrics["val_loss"]))
            best = &run;
    if (!best)
        fail(fmt::format("{}: no run finished; {}/study.json says why", search.plan.title,
                         search.plan.folder));
    for (size_t i = 0; i < search.plan.varied.size(); ++i) {
        const std::string& name = search.plan.varied[i].name;
        set_config_value(base, name, best->values[i]);
        fmt::print("  chosen: {} = {}\n", name, best->values[i]);
    }
    return true;
}

// "0.003", "16, 2": the values of the searched keys that the configuration has now.
std::string values_of(const StudyPlan& plan, const ExperimentConfig& config) {
    std::string text;
    for (const VariedKey& key : plan.varied)
        text += (text.empty() ? "" : ", ") + config_value(config, key.name);
    return text;
}

class Baseline {
  public:
    Baseline(const ExperimentCommand& command, int64_t search_steps)
        : config_(command.config), resume_(command.resume), search_steps_(search_steps) {
        config_.model.attention = AttentionKind::classic;
        folder_ = ResultPaths(config_.results_dir).baseline();
    }

    int run() {
        const Device device = prepare_machine(config_);
        Dataset data = load_data(config_);
        make_folder(folder_);
        const FolderLock lock(folder_);
        catch_interrupts(finishing_step);
        if (!resume_) warn_about_earlier_run(folder_);
        print_header("Sieve experiment 3: the dense baseline", config_, data, device, false);
        PlannedVariant long_run{.config = config_, .folder = folder_, .device = device};
        estimate(long_run, data);
        print_plan(long_run);
        if (search_steps_ > 0 && !search_settings(long_run.seconds)) return stop();
        long_run.config = config_;
        return train(long_run, data);
    }

  private:
    StudyPlan search_plan(const char* name, const char* title) const {
        StudyPlan plan{.title = title,
                       .folder = folder_ + "/search/" + name,
                       .base = config_,
                       .variants = {AttentionKind::classic},
                       .reuse = resume_};
        plan.base.classic_steps = search_steps_;
        return plan;
    }

    // The learning rate first, then the experts at that rate.
    bool search_settings(double long_seconds) {
        const double run_seconds =
            long_seconds / static_cast<double>(config_.classic_steps) * static_cast<double>(search_steps_);
        Search rates{.plan = search_plan("learning_rate", "Learning-rate search")};
        rates.plan.varied = {varied("learning_rate", searched_learning_rates)};
        rates.plan.seconds_after = long_seconds + static_cast<double>(expert_runs) * run_seconds;
        if (!search(rates, config_)) return false;

        Search experts{.plan = search_plan("experts", "Expert search")};
        experts.plan.varied = {varied("num_experts", searched_experts),
                               varied("expert_top_k", searched_expert_top_k)};
        experts.plan.seconds_after = long_seconds;
        if (!search(experts, config_)) return false;
        write_search(rates, experts);
        return true;
    }

    void write_search(const Search& rates, const Search& experts) const {
        write_json_atomic(folder_ + "/search.json",
                          {{"search_steps", search_steps_},
                           {"chosen",
                            {{"learning_rate", config_.learning_rate},
                             {"num_experts", config_.model.num_experts},
                             {"expert_top_k", config_.model.expert_top_k}}},
                           {"learning_rate", study_json(rates.plan, rates.outcome.runs)},
                           {"experts", study_json(experts.plan, experts.outcome.runs)}});
        plot::Figure figure(1, 2, {800, 330});
        figure.title =
            fmt::format("Search of the dense baseline: validation loss after {} steps", search_steps_);
        for (int i = 0; i < 2; ++i) {
            const Search& s = i == 0 ? rates : experts;
            draw_study_metric(figure.at(0, i), s.plan, s.outcome.runs, "val_loss");
            figure.at(0, i).title = fmt::format("{}: {} chosen", s.plan.title, values_of(s.plan, config_));
        }
        figure.save(folder_ + "/search.png");
    }

    void print_plan(const PlannedVariant& long_run) const {
        const double steps = static_cast<double>(config_.classic_steps);
        double search_seconds = 0;
        if (search_steps_ > 0) {
            const size_t runs = searched_learning_rates.size() + expert_runs;
            search_seconds =
                static_cast<double>(runs) * static_cast<double>(search_steps_) / steps * long_run.seconds;
            fmt::print("  search      {} runs of {} steps, then the long run at the best setting\n", runs,
                       search_steps_);
        }
        fmt::print("  long run    {} steps of about {:.0f} ms\n", config_.classic_steps,
                   1000 * long_run.step_seconds.front());
        fmt::print("  total time  about {} (from trial steps; more experts take longer)\n",
                   human_time(search_seconds + long_run.seconds));
        std::fflush(stdout);
    }

    int train(PlannedVariant& long_run, const Dataset& data) const {
        fmt::print("\nThe long run: learning_rate {}, {} experts, top {}\n", config_.learning_rate,
                   config_.model.num_experts, config_.model.expert_top_k);
        if (!wants_training(long_run, data, resume_))
            fmt::print("  it was finished by an earlier run and is kept\n");
        else if (run_variant(long_run, data, 0) == TrainingOutcome::interrupted)
            return stop();
        const TrainingHistory h = read_training_results(folder_ + "/training_results.json");
        fmt::print("\n  validation loss {:.4f}, accuracy {:.2f} %, {}\n", h["val_loss"].back(),
                   100 * h["val_accuracy"].back(),
                   text_in_line("val_bits_per_byte", h.last("val_bits_per_byte")));
        fmt::print("results are in {}/; exp4 with the same results_dir compares itself with them\n", folder_);
        return 0;
    }

    static int stop() {
        fmt::print("\ninterrupted; the state is saved. To go on: the same command with --resume\n");
        return interrupted();
    }

    ExperimentConfig config_;
    bool resume_;
    int64_t search_steps_;
    std::string folder_;
};

}  // namespace

int run_baseline(const ExperimentCommand& command, int64_t search_steps) {
    ExperimentConfig config = command.config;
    const int64_t most = config_key(config, "classic_steps").most;
    if (search_steps < 0) fail_usage(fmt::format("search_steps: {}, want at least 0", search_steps));
    if (search_steps > most) fail_usage(fmt::format("search_steps: {}, want at most {}", search_steps, most));
    return Baseline(command, search_steps).run();
}

}  // namespace sieve
