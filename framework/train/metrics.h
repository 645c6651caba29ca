// Every number that a training is judged by: one table. A new metric is a line in it and the line that
// computes the number (evaluate.cpp, or the trainer for what belongs to a step). Checkpoints,
// training_results.json, the logs, TensorBoard, the line on the terminal, the report's table of evaluations
// and studies follow the table.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sieve {

// Where a training's history keeps a metric, and with it training_results.json and checkpoints.
enum class Kept { nowhere, each_step, each_evaluation };
// What a study compares of it.
enum class OfRun { nothing, last, median, whole };  // whole: one number of the run, no series

struct Metric {
    const char* name;       // its key in every file
    const char* title;      // for people
    const char* unit = "";  // of the number that is shown: `factor` times the one that is stored
    double factor = 1;
    int decimals = 4;
    const char* tag = nullptr;   // of TensorBoard; null: not in the logs
    const char* line = nullptr;  // in the lines of an evaluation, such as "val {:.4f}"; null: not there
    Kept kept = Kept::nowhere;
    // The number is the mean of one number a layer, and those are kept at each evaluation under this key; or it
    // is of all validation text, and the key keeps it source by source (Dataset::sources).
    const char* layers = nullptr;
    OfRun of_run = OfRun::nothing;
    bool sparse_only = false;
    // The metrics that a reader needs to judge this one: what random keys and what the best keys would give.
    // Where this one is drawn or printed, they are.
    const char* chance = nullptr;
    const char* oracle = nullptr;  // null beside a chance: 1
    bool optional = false;  // files may lack it (older ones do): it is left out where it was never measured
};

// Log files have their columns in this order.
inline constexpr Metric metric_table[] = {
    // Of a step. The loss is the language model's, in the warm-up the indexer's alignment loss.
    {.name = "loss", .title = "loss", .unit = "nats", .tag = "train/loss"},
    {.name = "learning_rate",
     .title = "learning rate",
     .tag = "train/learning_rate",
     .kept = Kept::each_evaluation},
    {.name = "grad_norm", .title = "gradient norm", .tag = "train/grad_norm", .kept = Kept::each_evaluation},
    {.name = "tokens_per_second", .title = "tokens per second", .tag = "train/tokens_per_second"},
    {.name = "seconds", .title = "time of the step", .unit = "s", .tag = "train/seconds"},
    // Of the steps since the evaluation before.
    {.name = "train_loss",
     .title = "training loss",
     .unit = "nats",
     .line = "train {:.4f}",
     .kept = Kept::each_evaluation},
    // Of an evaluation.
    {.name = "val_loss",
     .title = "validation loss",
     .unit = "nats",
     .tag = "val/loss",
     .line = "val {:.4f}",
     .kept = Kept::each_evaluation,
     .layers = "source_val_loss",
     .of_run = OfRun::last},
    {.name = "val_accuracy",
     .title = "accuracy",
     .unit = "%",
     .factor = 100,
     .decimals = 2,
     .tag = "val/accuracy",
     .line = "accuracy {:.2f} %",
     .kept = Kept::each_evaluation,
     .of_run = OfRun::last},
    // Of the answers that count in --task recall; chance is 0.1.
    {.name = "answer_accuracy",
     .title = "right answers",
     .unit = "%",
     .factor = 100,
     .decimals = 1,
     .tag = "val/answer_accuracy",
     .line = "answers {:.1f} %",
     .kept = Kept::each_evaluation,
     .of_run = OfRun::last,
     .optional = true},
    {.name = "val_perplexity",
     .title = "perplexity",
     .decimals = 2,
     .tag = "val/perplexity",
     .kept = Kept::each_evaluation,
     .of_run = OfRun::last},
    // Of the tokens whose query may read every earlier key in every layer (t < k, the smallest k), and of the
    // others.
    {.name = "val_loss_below_k",
     .title = "validation loss below k",
     .unit = "nats",
     .tag = "val/loss_below_k",
     .kept = Kept::each_evaluation,
     .optional = true},
    {.name = "val_loss_from_k",
     .title = "validation loss from k on",
     .unit = "nats",
     .tag = "val/loss_from_k",
     .kept = Kept::each_evaluation,
     .optional = true},
    // The loss of all tokens over the bytes of their text: comparable across vocabularies, unlike val_loss.
    {.name = "val_bits_per_byte",
     .title = "bits per byte",
     .decimals = 3,
     .tag = "val/bits_per_byte",
     .line = "{:.3f} bits/byte",
     .kept = Kept::each_evaluation,
     .of_run = OfRun::last,
     .optional = true},
    {.name = "time_per_step",
     .title = "time per step",
     .unit = "ms",
     .factor = 1000,
     .decimals = 1,
     .line = "{:.0f} ms/step",
     .kept = Kept::each_evaluation,
     .of_run = OfRun::median},
    {.name = "peak_memory_bytes",
     .title = "peak memory",
     .unit = "MiB",
     .factor = 1.0 / (1 << 20),
     .decimals = 1,
     .of_run = OfRun::whole},
    {.name = "indexer_kl",
     .title = "indexer KL",
     .unit = "nats",
     .tag = "indexer/kl",
     .line = "KL {:.4f}",
     .kept = Kept::each_evaluation,
     .layers = "layer_kl",
     .of_run = OfRun::last,
     .sparse_only = true},
    // 1 - KL / KL of the uniform distribution over the same keys: 0 when scores say nothing, 1 when they say
    // all, negative when they mislead.
    {.name = "indexer_captured",
     .title = "KL captured",
     .decimals = 3,
     .tag = "indexer/captured",
     .line = "captured {:.3f}",
     .kept = Kept::each_evaluation,
     .layers = "layer_captured",
     .of_run = OfRun::last,
     .sparse_only = true,
     .optional = true},
    {.name = "indexer_recall",
     .title = "recall",
     .decimals = 3,
     .tag = "indexer/recall",
     .line = "recall {:.3f}",
     .kept = Kept::each_evaluation,
     .layers = "layer_recall",
     .of_run = OfRun::last,
     .sparse_only = true,
     .chance = "indexer_chance"},
    {.name = "indexer_covered_mass",
     .title = "covered mass",
     .decimals = 3,
     .tag = "indexer/covered_mass",
     .line = "covered mass {:.3f}",
     .kept = Kept::each_evaluation,
     .layers = "layer_covered_mass",
     .of_run = OfRun::last,
     .sparse_only = true,
     .chance = "indexer_chance",
     .oracle = "indexer_oracle_mass"},
    // Recall and covered mass of random keys, and the covered mass of the best ones (their recall is 1).
    {.name = "indexer_chance",
     .title = "chance",
     .decimals = 3,
     .tag = "indexer/chance",
     .line = "chance {:.3f}",
     .kept = Kept::each_evaluation,
     .layers = "layer_chance",
     .of_run = OfRun::last,
     .sparse_only = true,
     .optional = true},
    {.name = "indexer_oracle_mass",
     .title = "oracle mass",
     .decimals = 3,
     .tag = "indexer/oracle_mass",
     .line = "oracle mass {:.3f}",
     .kept = Kept::each_evaluation,
     .layers = "layer_oracle_mass",
     .of_run = OfRun::last,
     .sparse_only = true,
     .optional = true},
    // 0: random keys, 1: the best ones; of the queries that have a choice.
    {.name = "indexer_recall_above_chance",
     .title = "recall above chance",
     .decimals = 3,
     .tag = "indexer/recall_above_chance",
     .kept = Kept::each_evaluation,
     .layers = "layer_recall_above_chance",
     .of_run = OfRun::last,
     .sparse_only = true,
     .optional = true},
    {.name = "indexer_mass_above_chance",
     .title = "mass above chance",
     .decimals = 3,
     .tag = "indexer/mass_above_chance",
     .kept = Kept::each_evaluation,
     .layers = "layer_mass_above_chance",
     .of_run = OfRun::last,
     .sparse_only = true,
     .optional = true},
    {.name = "attention_entropy",
     .title = "entropy of attention",
     .unit = "nats",
     .decimals = 3,
     .tag = "indexer/attention_entropy",
     .kept = Kept::each_evaluation,
     .layers = "layer_entropy",
     .sparse_only = true,
     .optional = true},
    // Of the queries that have a choice, as what follows.
    {.name = "indexer_precision_recall",  // not with fp32
     .title = "recall of float32's keys",
     .tag = "indexer/precision_recall",
     .line = "recall of float32's keys {:.4f}",
     .kept = Kept::each_evaluation,
     .sparse_only = true,
     .chance = "indexer_chance_of_choices",
     .optional = true},
    {.name = "indexer_chance_of_choices",
     .title = "chance of queries with a choice",
     .decimals = 3,
     .tag = "indexer/chance_of_choices",
     .kept = Kept::each_evaluation,
     .layers = "layer_chance_of_choices",
     .sparse_only = true,
     .optional = true},
    {.name = "selection_ties",
     .title = "ties among selected keys",
     .decimals = 3,
     .tag = "selection/ties",
     .kept = Kept::each_evaluation,
     .layers = "layer_ties",
     .sparse_only = true,
     .optional = true},
    // 0: heads that have nothing to do with each other, 1: heads that would select the same keys.
    {.name = "indexer_heads_overlap",
     .title = "overlap of the indexer's heads",
     .decimals = 3,
     .tag = "indexer/heads_overlap",
     .kept = Kept::each_evaluation,
     .layers = "layer_heads_overlap",
     .of_run = OfRun::last,
     .sparse_only = true,
     .optional = true},
    // 0: all keys tie for a head, 1: none that matters does.
    {.name = "indexer_heads_decided",
     .title = "what a head's scores decide",
     .decimals = 3,
     .tag = "indexer/heads_decided",
     .kept = Kept::each_evaluation,
     .layers = "layer_heads_decided",
     .of_run = OfRun::last,
     .sparse_only = true,
     .optional = true},
    {.name = "selection_first_key",
     .title = "queries that keep key 0",
     .decimals = 3,
     .tag = "selection/first_key",
     .kept = Kept::each_evaluation,
     .layers = "layer_first_key",
     .sparse_only = true,
     .chance = "indexer_chance_of_choices",
     .optional = true},
    {.name = "selection_query_overlap",
     .title = "overlap of successive queries",
     .decimals = 3,
     .tag = "selection/query_overlap",
     .kept = Kept::each_evaluation,
     .layers = "layer_query_overlap",
     .sparse_only = true,
     .chance = "indexer_chance_of_choices",
     .optional = true},
    {.name = "selection_layer_overlap",
     .title = "overlap with other layers",
     .decimals = 3,
     .tag = "selection/layer_overlap",
     .kept = Kept::each_evaluation,
     .layers = "layer_overlap",
     .sparse_only = true,
     .chance = "indexer_chance_of_choices",
     .optional = true},
    // Of every step of the stage that trains the language model, and of the indexer's warm-up.
    {.name = "step_loss", .title = "loss", .unit = "nats", .kept = Kept::each_step},
    {.name = "warmup_loss", .title = "loss of the warm-up", .unit = "nats", .kept = Kept::each_step},
};
inline constexpr size_t metric_count = std::size(metric_table);

// A place in the table, by name: one that the table lacks does not compile.
class MetricKey {
  public:
    consteval MetricKey(const char* name) : index_(find(name)) {}
    static constexpr MetricKey at(size_t index) { return MetricKey(index); }
    constexpr size_t index() const { return index_; }
    constexpr const Metric* operator->() const { return &metric_table[index_]; }
    constexpr bool operator==(const MetricKey&) const = default;

  private:
    explicit constexpr MetricKey(size_t index) : index_(index) {}
    static consteval size_t find(std::string_view name) {
        for (size_t i = 0; i < metric_count; ++i)
            if (name == metric_table[i].name) return i;
        throw "the table of metrics has no such name";
    }
    size_t index_;
};

std::vector<MetricKey> all_metrics();
std::vector<MetricKey> evaluation_metrics();  // kept at each evaluation
std::vector<MetricKey> logged_metrics();
std::vector<MetricKey> run_metrics();                      // what a study compares
std::string column_title(MetricKey metric);                // "time per step, ms"
std::string text_in_line(MetricKey metric, double value);  // "accuracy 25.95 %"
// The metric of a name that another one's line in the table gives; nothing for null.
std::optional<MetricKey> metric_named(const char* name);
bool stands_beside_another(MetricKey metric);  // it is the chance or the oracle of one

// What one step, evaluation or run measured. NaN: it was not.
class Measurement {
  public:
    Measurement() { values_.fill(NAN); }
    double operator[](MetricKey metric) const { return values_[metric.index()]; }
    double& operator[](MetricKey metric) { return values_[metric.index()]; }
    // One number a layer; the metric itself becomes the mean of those that are not NaN.
    void set_layers(MetricKey metric, std::vector<double> by_layer);
    // One number a source beside the metric's own; NaN for a source without validation text.
    void set_sources(MetricKey metric, std::vector<double> by_source);
    const std::vector<double>& layers(MetricKey metric) const;
    void add(const Measurement& other);  // what `other` measured

  private:
    std::array<double, metric_count> values_;
    std::map<size_t, std::vector<double>> layers_;  // by the metric's index: most have none
};

// One Measurement a layer in, theirs by layer out: of each metric that some layer measured.
Measurement measurement_of_layers(const std::vector<Measurement>& layers);

// What an evaluation says on the terminal, as far as it was measured: of the language model ("train 4.1203 |
// val 4.2031"), or of the selections ("KL 0.0123, recall 0.902, chance 0.845"; empty for a classic model).
std::string model_line(const Measurement& measured);
std::string selection_line(const Measurement& measured);

// A whole training. Series of one kind (Kept) have one length, or none where nothing was measured; NaN stands
// for single evaluations that did not measure what others did.
class TrainingHistory {
  public:
    std::vector<int64_t> steps;   // of each evaluation, within its stage
    double training_seconds = 0;  // in steps, without evaluation
    double warmup_seconds = 0;
    double total_seconds = 0;  // everything
    int64_t peak_memory_bytes = 0;

    const std::vector<double>& operator[](MetricKey metric) const { return series_[metric.index()]; }
    std::vector<double>& operator[](MetricKey metric) { return series_[metric.index()]; }
    // [evaluation][layer]
    const std::vector<std::vector<double>>& layers(MetricKey metric) const { return layers_[metric.index()]; }
    std::vector<std::vector<double>>& layers(MetricKey metric) { return layers_[metric.index()]; }

    double last(MetricKey metric) const;  // NaN when it was never measured
    Measurement last_evaluation() const;
    void note_evaluation(int64_t step, const Measurement& measured);
    Measurement of_run() const;  // the numbers that a study compares

  private:
    std::array<std::vector<double>, metric_count> series_;
    std::array<std::vector<std::vector<double>>, metric_count> layers_;
};

double median_of(std::vector<double> values);  // the upper one of two; NaN when there are none

// As training_results.json and checkpoints hold it: json_number of each number (io/json_file.h), null for
// what an evaluation did not measure.
nlohmann::ordered_json state_of_history(const TrainingHistory& history);
// Throws a bad_file error that begins with `source` and names the key for what is no history: a key is
// missing or of another type, steps do not ascend from 1 or more, a series is longer or shorter than its
// steps, layers differ in number, a time is negative or not finite.
TrainingHistory history_from_state(const nlohmann::ordered_json& json, const std::string& source);
// Throws a bad_file error that begins with `source` unless the history is that of so many steps done.
void check_history(const TrainingHistory& history, int64_t warmup_steps, int64_t steps,
                   const std::string& source);

}  // namespace sieve
