#include "framework/runs/run_trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>

#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/program/interrupt.h"
#include "framework/program/prepare_machine.h"
#include "framework/program/progress.h"
#include "framework/report/results.h"
#include "framework/runs/experiment.h"

namespace sieve {
namespace {

const char* failure_name(ErrorKind kind) {
    switch (kind) {
        case ErrorKind::usage:
            return "bad combination";
        case ErrorKind::bad_file:
            return "bad file";
        case ErrorKind::diverged:
            return "diverged";
        case ErrorKind::out_of_memory:
            return "out of memory";
        case ErrorKind::failure:
            break;
    }
    return "failure";
}

Measurement metrics_in(const std::string& folder) {
    return read_training_results(folder + "/training_results.json").of_run();
}

std::string runs_text(int64_t n) {
    return fmt::format("{} {}", n, n == 1 ? "run" : "runs");
}

class RunTrainer {
  public:
    RunTrainer(const RunList& list, const ExperimentConfig& prepared)
        : list_(list), runs_(list.runs), planned_(list.runs.size()), machine_(machine_of(prepared)) {}

    // Finds what is finished and measures what the rest will cost.
    void prepare() {
        for (size_t i = 0; i < runs_.size() && !interrupted(); ++i)
            guarded(runs_[i], [&] { prepare_run(i); });
        fmt::print("  plan        {}, of which {} finished earlier; about {} to go (from trial steps)\n",
                   runs_text(static_cast<int64_t>(runs_.size())), count(RunStatus::finished),
                   human_time(seconds_left(0)));
        std::fflush(stdout);
    }

    // False when it was interrupted.
    bool train() {
        for (size_t i = 0; i < runs_.size(); ++i) {
            if (runs_[i].status != RunStatus::pending) continue;
            if (interrupted()) return false;
            fmt::print("\nrun {} of {}: {} model, {}\n", i + 1, runs_.size(), name_of(runs_[i].variant),
                       list_.label(runs_[i]));
            if (runs_[i].config.model.reads_future())
                fmt::print("note: {}\n", leak_text(runs_[i].config.model));
            guarded(runs_[i], [&] { train_run(i); });
            if (runs_[i].status == RunStatus::pending) return false;
            print_remaining(i);
            list_.after_run();
        }
        return true;
    }

    // Of the runs from number `first` on.
    double seconds_left(size_t first) const {
        double seconds = 0;
        for (size_t j = first; j < runs_.size(); ++j)
            if (runs_[j].status == RunStatus::pending) seconds += planned_[j].seconds;
        return seconds;
    }

  private:
    template <class F>
    void guarded(StudyRun& run, F&& body) {
        try {
            body();
        } catch (const Error& e) {
            note_failure(run, failure_name(e.kind()), message_of(e, experiment_flags()));
        } catch (const std::bad_alloc&) {
            note_failure(run, failure_name(ErrorKind::out_of_memory), "out of memory");
        }
    }

    void note_failure(StudyRun& run, const std::string& error, const std::string& message) {
        run.status = RunStatus::failed;
        run.error = error;
        run.message = message;
        fmt::print(stderr, "{} model, {}: {}\n", name_of(run.variant), list_.label(run), message);
    }

    void prepare_run(size_t i) {
        StudyRun& run = runs_[i];
        validate(run.config);
        planned_[i] = {.config = run.config, .folder = run.folder, .classic_model = run.classic_model};
        const Dataset& data = enter(run.config);
        planned_[i].device = device_;
        set_vocabulary(planned_[i].config, data);
        if (!wants_training(planned_[i], data, list_.reuse)) {
            run.metrics = metrics_in(run.folder);
            run.status = RunStatus::finished;
            return;
        }
        if (const PlannedVariant* known = planned_with_other_seed(i)) {
            planned_[i].step_seconds = known->step_seconds;
            planned_[i].seconds = known->seconds;
        } else {
            estimate(planned_[i], data);
        }
    }

    static bool equal_but_seed(const ExperimentConfig& a, ExperimentConfig b) {
        b.seed = a.seed;
        return config_to_json(a) == config_to_json(b);
    }

    // An earlier run that costs the same, when all of its stages were measured.
    const PlannedVariant* planned_with_other_seed(size_t i) const {
        for (size_t j = 0; j < i; ++j)
            if (runs_[j].status == RunStatus::pending && runs_[j].variant == runs_[i].variant &&
                runs_[j].values == runs_[i].values && equal_but_seed(runs_[j].config, runs_[i].config))
                return &planned_[j];
        return nullptr;
    }

    void train_run(size_t i) {
        StudyRun& run = runs_[i];
        const Dataset& data = enter(run.config);
        if (run_variant(planned_[i], data, seconds_left(i + 1) + list_.seconds_after) ==
            TrainingOutcome::interrupted)
            return;
        run.metrics = metrics_in(run.folder);
        run.status = RunStatus::finished;
    }

    void print_remaining(size_t i) {
        const auto left = count(RunStatus::pending);
        if (left) fmt::print("{} left, about {}\n", runs_text(left), human_time(seconds_left(i + 1)));
        std::fflush(stdout);
    }

    int64_t count(RunStatus status) const {
        return std::count_if(runs_.begin(), runs_.end(),
                             [&](const StudyRun& r) { return r.status == status; });
    }

    using Machine = std::tuple<DeviceChoice, PrecisionChoice, int64_t, int64_t>;
    static Machine machine_of(const ExperimentConfig& c) {
        return {c.device, c.precision, c.threads, c.memory_limit_mb};
    }

    // The machine and the data as this configuration wants them; both stay as they are while they fit.
    const Dataset& enter(ExperimentConfig config) {
        if (const Machine machine = machine_of(config); machine_ != machine) {
            if (config.threads == 0)
                set_thread_count(
                    std::min<int64_t>(omp_get_num_procs(), most_threads));  // after a run with fewer
            device_ = prepare_machine(config);
            machine_ = machine;
        }
        check_model_fits(config, device_);
        if (!data_ || data_config_ != data_config(config)) {
            data_config_ = data_config(config);
            data_.emplace(load_data(config));
        }
        return *data_;
    }

    const RunList& list_;
    Device device_;
    std::vector<StudyRun>& runs_;
    std::vector<PlannedVariant> planned_;
    Machine machine_;
    std::optional<Dataset> data_;
    DataConfig data_config_;
};

}  // namespace

bool train_runs(const RunList& list, const ExperimentConfig& prepared) {
    RunTrainer trainer(list, prepared);
    trainer.prepare();
    return trainer.train();
}

}  // namespace sieve
