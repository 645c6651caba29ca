#include "framework/measure/efficiency.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <new>

#include "framework/blas/gemm_rate.h"
#include "framework/core/allocator.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/io/atomic_file.h"
#include "framework/io/marked_section.h"
#include "framework/measure/flops.h"
#include "framework/measure/memory_estimate.h"
#include "framework/program/device.h"
#include "framework/program/interrupt.h"

namespace sieve {

double sum_of(const std::vector<PartSeconds>& parts) {
    double sum = 0;
    for (const PartSeconds& part : parts) sum += part.total();
    return sum;
}

int64_t EfficiencyPlan::top_k_of(int64_t length) const {
    if (top_k_ratio == 0) return top_k;
    return std::max<int64_t>(1, std::llround(top_k_ratio * static_cast<double>(length)));
}

ExperimentConfig EfficiencyPlan::config_of(AttentionVariant variant, int64_t length) const {
    ExperimentConfig config = base;
    config.model.attention =
        variant == AttentionVariant::sparse ? AttentionKind::sparse : AttentionKind::classic;
    config.model.materialised = variant == AttentionVariant::materialised;
    config.model.max_seq_len = length;
    config.model.sparse_top_k = top_k_of(length);
    config.batch_size = std::max<int64_t>(1, tokens_per_step / length);
    return config;
}

std::vector<PartSeconds> StepMeasurement::parts() const {
    if (steps_in_parts.empty()) return {};
    std::vector<std::vector<PartSeconds>> sorted = steps_in_parts;
    const auto middle = sorted.begin() + static_cast<int64_t>((sorted.size() - 1) / 2);
    std::nth_element(sorted.begin(), middle, sorted.end(),
                     [](const auto& a, const auto& b) { return sum_of(a) < sum_of(b); });
    return *middle;
}

const StepMeasurement* EfficiencyResults::find(AttentionVariant variant, int64_t length,
                                               StepKind kind) const {
    for (const EfficiencyPoint& point : points) {
        if (point.variant != variant || point.length() != length) continue;
        const auto found = point.steps.find(kind);
        if (found != point.steps.end()) return &found->second;
    }
    return nullptr;
}

double flops_of(const ExperimentConfig& c, StepKind kind) {
    const auto count = kind == StepKind::forward ? forward_flops : training_step_flops;
    return count(c.model, c.batch_size, c.model.max_seq_len).total();
}

double flop_bound(const EfficiencyPlan& plan, int64_t length, StepKind kind) {
    return flops_of(plan.config_of(AttentionVariant::classic, length), kind) /
           flops_of(plan.config_of(AttentionVariant::sparse, length), kind);
}

std::optional<Quartiles> speedup_of(const EfficiencyResults& results, AttentionVariant over, int64_t length,
                                    StepKind kind) {
    const StepMeasurement* dense = results.find(over, length, kind);
    const StepMeasurement* sparse = results.find(AttentionVariant::sparse, length, kind);
    if (!dense || !sparse || dense->seconds.empty() || sparse->seconds.empty()) return std::nullopt;
    const size_t pairs = std::min(dense->seconds.size(), sparse->seconds.size());
    if (dense->in_turns && sparse->in_turns)
        return PairedSteps{{dense->seconds.begin(), dense->seconds.begin() + static_cast<int64_t>(pairs)},
                           {sparse->seconds.begin(), sparse->seconds.begin() + static_cast<int64_t>(pairs)}}
            .speedup();
    const Quartiles a = quartiles_of(dense->seconds), b = quartiles_of(sparse->seconds);
    return Quartiles{a.lower / b.upper, a.median / b.median, a.upper / b.lower};
}

Crossover crossover_of(const std::vector<int64_t>& lengths,
                       const std::vector<std::optional<Quartiles>>& speedups) {
    std::vector<std::pair<double, Quartiles>> points;  // length, speed-up
    for (size_t i = 0; i < lengths.size(); ++i)
        if (speedups[i]) points.emplace_back(static_cast<double>(lengths[i]), *speedups[i]);
    if (points.empty()) return {{}, "not measured"};
    const auto faster = [](const auto& point) { return point.second.lower > 1; };
    const auto slower = [](const auto& point) { return point.second.upper < 1; };
    // From the end: the lengths at which sparse is faster, those that do not decide, one at which it is
    // slower.
    const auto last_other = std::find_if_not(points.rbegin(), points.rend(), faster);
    const auto last_slower = std::find_if(last_other, points.rend(), slower);
    const double first = points.front().first, last = points.back().first;
    if (last_other == points.rend())
        return {{}, fmt::format("faster at every length, from {:.0f} tokens on", first)};
    if (last_slower == points.rbegin()) return {{}, fmt::format("none up to {:.0f} tokens", last)};
    if (last_other == points.rbegin() || last_slower == points.rend() || last_other != last_slower) {
        const double from = last_slower == points.rend() ? first : last_slower->first;
        const double to = last_other == points.rbegin() ? last : std::prev(last_other)->first;
        return {{},
                from == to
                    ? fmt::format("not seen at {:.0f} tokens, the only length", from)
                    : fmt::format("not seen between {:.0f} and {:.0f} tokens: the times spread too far", from,
                                  to)};
    }
    const auto [x0, s0] = *last_slower;
    const auto [x1, s1] = *std::prev(last_slower);
    const double share = -std::log(s0.median) / (std::log(s1.median) - std::log(s0.median));
    const double length = std::exp(std::log(x0) + share * (std::log(x1) - std::log(x0)));
    return {length, fmt::format("at about {:.0f} tokens", length)};
}

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

void say(const std::string& line) {
    fmt::print("{}\n", line);
    std::fflush(stdout);
}

// Runs f. False, with the reason in `point`, when memory did not suffice.
template <class F>
bool fits(EfficiencyPoint& point, const F& f) {
    try {
        f();
        return true;
    } catch (const Error& e) {
        if (e.kind() != ErrorKind::out_of_memory) throw;
        point.skipped = e.what();
    } catch (const std::bad_alloc&) {
        point.skipped = "out of memory";
    }
    return false;
}

class Measuring {
  public:
    explicit Measuring(const EfficiencyPlan& plan) : plan_(plan) {}

    EfficiencyResults run() {
        results_.gemm_rate = measured_gemm_rate(plan_.device);
        say(fmt::format("{}; matrix products at {:.0f} GFLOP/s; up to {} of tensors", describe(plan_.device),
                        results_.gemm_rate, human_bytes(plan_.memory_limit)));
        set_memory_limit(plan_.memory_limit, plan_.device);
        started_ = Clock::now();
        for (const AttentionVariant variant : plan_.variants) add_estimates(variant);
        for (const int64_t length : plan_.lengths) {
            if (interrupted()) break;
            measure_length(length);
            write_efficiency(plan_, results_);
        }
        // Had the machine been busy at the start, its steps would seem faster than its matrix products.
        results_.gemm_rate = std::max(results_.gemm_rate, measured_gemm_rate(plan_.device));
        results_.interrupted = interrupted() != 0;
        set_memory_limit(0, plan_.device);
        return std::move(results_);
    }

  private:
    struct Running {
        EfficiencyPoint* point;
        std::unique_ptr<TimedModel> model;
    };

    // All points of a variant, those skipped already that need too much.
    void add_estimates(AttentionVariant variant) {
        std::vector<EfficiencyPoint> points;
        for (const int64_t length : plan_.lengths)
            points.push_back({.variant = variant, .config = plan_.config_of(variant, length)});
        EfficiencyPoint reason;
        const bool fit = fits(reason, [&] {
            const MemoryEstimate estimate(points.front().config, plan_.device);
            for (EfficiencyPoint& point : points)
                for (const StepKind kind : plan_.stages)
                    point.estimated_bytes =
                        std::max(point.estimated_bytes, estimate.bytes(point.config, kind));
        });
        for (EfficiencyPoint& point : points) {
            if (!fit)
                point.skipped = reason.skipped;
            else if (point.estimated_bytes > plan_.memory_limit)
                point.skipped = fmt::format("needs about {} ({} bytes), the memory limit is {}",
                                            human_bytes(point.estimated_bytes), point.estimated_bytes,
                                            human_bytes(plan_.memory_limit));
            results_.points.push_back(std::move(point));
        }
        release_cached_memory(plan_.device);
    }

    void measure_length(int64_t length) {
        const ExperimentConfig config = plan_.config_of(plan_.variants.front(), length);
        say(fmt::format("\nlength {}: {} window{}, top {}{}", length, config.batch_size,
                        config.batch_size == 1 ? "" : "s", plan_.top_k_of(length), time_left()));
        std::vector<EfficiencyPoint*> points;
        int64_t together = 0;
        for (EfficiencyPoint& point : results_.points) {
            if (point.length() != length) continue;
            if (!point.skipped.empty()) {
                say_skipped(point);
                continue;
            }
            points.push_back(&point);
            together += point.estimated_bytes;
        }
        if (together <= plan_.memory_limit) {
            measure_together(points);
        } else {
            say("  too large to take turns: one variant after the other");
            for (EfficiencyPoint* point : points) measure_together({point});
        }
    }

    void measure_together(const std::vector<EfficiencyPoint*>& points) {
        std::vector<Running> all;
        for (EfficiencyPoint* point : points) {
            Running running{.point = point};
            if (attempt(running, [&] {
                    running.model = std::make_unique<TimedModel>(point->config, plan_.device);
                    point->parameter_bytes = running.model->parameter_bytes();
                    point->state_bytes = running.model->state_bytes();
                }))
                all.push_back(std::move(running));
        }
        for (int64_t round = 0; round < rounds() && !interrupted(); ++round)
            for (Running& running : all)
                for (const StepKind kind : plan_.stages) {
                    if (!running.model || interrupted()) continue;
                    say_round(round);
                    attempt(running, [&] { run_step(running, kind, round, all.size() > 1); });
                }
        for (const Running& running : all)
            if (running.model) say_measured(*running.point);
        all.clear();
        release_cached_memory(plan_.device);
    }

    int64_t rounds() const { return plan_.untimed_steps + plan_.steps + plan_.part_steps; }

    void run_step(Running& running, StepKind kind, int64_t round, bool in_turns) {
        const double flops = flops_of(running.point->config, kind);
        if (round >= plan_.untimed_steps + plan_.steps) {
            running.point->steps[kind].steps_in_parts.push_back(running.model->run_in_parts(kind));
        } else {
            const TimedStep step = running.model->run(kind);
            peaks_[{running.point, kind}] = std::max(peaks_[{running.point, kind}], step.peak_bytes);
            if (round >= plan_.untimed_steps)
                note(running.point->steps[kind], step, peaks_[{running.point, kind}], in_turns);
        }
        flops_done_ += flops;
    }

    static void note(StepMeasurement& measurement, const TimedStep& step, int64_t peak_bytes, bool in_turns) {
        measurement.seconds.push_back(step.seconds);
        measurement.in_turns = in_turns;
        measurement.system_calls += step.system_calls;
        measurement.peak_bytes = peak_bytes;
        measurement.loss = step.loss;
    }

    // A model that ran out of memory is given up, with what it had measured.
    template <class F>
    bool attempt(Running& running, const F& f) {
        if (fits(*running.point, f)) return true;
        running.model.reset();
        running.point->steps.clear();
        release_cached_memory(plan_.device);
        say_skipped(*running.point);
        return false;
    }

    // From the FLOPs that are left, at the rate so far.
    double seconds_left() const {
        double left = -flops_done_;
        for (const EfficiencyPoint& point : results_.points)
            for (const StepKind kind : plan_.stages)
                if (point.skipped.empty())
                    left += static_cast<double>(rounds()) * flops_of(point.config, kind);
        const double rate =
            flops_done_ > 0 ? flops_done_ / seconds_since(started_) : 0.5e9 * results_.gemm_rate;
        return std::max(0.0, left) / rate;
    }

    std::string time_left() const {
        const double seconds = seconds_left();
        return seconds < 5 ? "" : fmt::format("; about {} left in all", human_time(seconds));
    }

    // A sign of life, when the last line is a while ago.
    void say_round(int64_t round) {
        if (seconds_since(last_said_) < 15) return;
        say(fmt::format("  round {} of {}{}", round + 1, rounds(), time_left()));
        last_said_ = Clock::now();
    }

    void say_skipped(const EfficiencyPoint& point) {
        say(fmt::format("  {:<12} skipped: {}", name_of(point.variant), point.skipped));
    }

    void say_measured(const EfficiencyPoint& point) {
        for (const auto& [kind, m] : point.steps) {
            if (m.seconds.empty()) continue;
            const TimeSpread t = time_spread_of(m.seconds);
            const double bound = flops_of(point.config, kind) / (1e9 * results_.gemm_rate);
            say(fmt::format(
                "  {:<12} {:<7} {:>9.2f} ms ({:.2f} to {:.2f})  {:>3.0f} % of the matrix rate  {}",
                name_of(point.variant), name_of(kind), 1e3 * t.median, 1e3 * t.fastest, 1e3 * t.slowest,
                100 * bound / t.median, human_bytes(m.peak_bytes)));
        }
        last_said_ = Clock::now();
    }

    const EfficiencyPlan& plan_;
    EfficiencyResults results_;
    // Untimed steps count as well: later ones may replay a recording, which allocates nothing.
    std::map<std::pair<const EfficiencyPoint*, StepKind>, int64_t> peaks_;
    Clock::time_point started_, last_said_ = Clock::now();
    double flops_done_ = 0;
};

}  // namespace

EfficiencyResults measure_efficiency(const EfficiencyPlan& plan) {
    return Measuring(plan).run();
}

namespace {

constexpr const char* page_sections[] = {"efficiency", "parts"};

void renew_page(const EfficiencyPlan& plan, const EfficiencyResults& results) {
    replace_marked_section(plan.markdown, page_sections[0], efficiency_markdown(plan, results));
    const std::string parts = parts_markdown(plan, results);
    if (!parts.empty()) replace_marked_section(plan.markdown, page_sections[1], parts);
}

}  // namespace

int run_efficiency(const EfficiencyPlan& plan) {
    if (!plan.markdown.empty())  // a page that cannot take the tables is refused before the measurements
        for (const char* section : page_sections) marked_section(plan.markdown, section);
    make_folder(plan.folder);
    catch_interrupts();
    const EfficiencyResults results = measure_efficiency(plan);
    write_efficiency(plan, results);
    fmt::print("\n{}\nresults are in {}/\n", efficiency_tables(plan, results), plan.folder);
    if (!results.interrupted) {
        if (!plan.markdown.empty()) renew_page(plan, results);
        return 0;
    }
    fmt::print("interrupted; what had been measured is there\n");
    return interrupted();
}

}  // namespace sieve
