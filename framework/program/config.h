// The configuration of an experiment: one list of keys serves the command line, config files, config.json,
// the presets and the help text.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "framework/core/named_enum.h"
#include "framework/core/precision.h"
#include "framework/data/recall_task.h"
#include "framework/data/text_split.h"
#include "framework/data/windows.h"
#include "models/config.h"

namespace sieve {

enum class OptimizerKind {
    muon,   // of hidden matrices, AdamW of everything else
    adamw,  // of everything
};
template <>
inline constexpr auto enum_names<OptimizerKind> = std::to_array<NamedValue<OptimizerKind>>(
    {{OptimizerKind::muon, "muon"}, {OptimizerKind::adamw, "adamw"}});

enum class SparseInit { scratch, classic };  // classic: the trained classic model's weights
template <>
inline constexpr auto enum_names<SparseInit> = std::to_array<NamedValue<SparseInit>>(
    {{SparseInit::scratch, "scratch"}, {SparseInit::classic, "classic"}});

// What trains the indexer in its warm-up.
enum class IndexerWarmup {
    kl,       // the alignment loss
    entropy,  // the entropy of its own scores, which is maximised (the original experiment's)
};
template <>
inline constexpr auto enum_names<IndexerWarmup> = std::to_array<NamedValue<IndexerWarmup>>(
    {{IndexerWarmup::kl, "kl"}, {IndexerWarmup::entropy, "entropy"}});

enum class DeviceChoice { automatic, cpu, cuda };
template <>
inline constexpr auto enum_names<DeviceChoice> = std::to_array<NamedValue<DeviceChoice>>(
    {{DeviceChoice::automatic, "auto"}, {DeviceChoice::cpu, "cpu"}, {DeviceChoice::cuda, "cuda"}});

template <>
inline constexpr auto enum_names<Precision> = std::to_array<NamedValue<Precision>>(
    {{Precision::fp32, "fp32"}, {Precision::tf32, "tf32"}, {Precision::bf16, "bf16"}});

enum class PrecisionChoice { automatic, fp32, tf32, bf16 };  // automatic: what the device is fastest in
template <>
inline constexpr auto enum_names<PrecisionChoice> =
    std::to_array<NamedValue<PrecisionChoice>>({{PrecisionChoice::automatic, "auto"},
                                                {PrecisionChoice::fp32, "fp32"},
                                                {PrecisionChoice::tf32, "tf32"},
                                                {PrecisionChoice::bf16, "bf16"}});

// What an experiment does, one after the other.
enum class ExperimentStage { classic, sparse, compare };
template <>
inline constexpr auto enum_names<ExperimentStage> =
    std::to_array<NamedValue<ExperimentStage>>({{ExperimentStage::classic, "classic"},
                                                {ExperimentStage::sparse, "sparse"},
                                                {ExperimentStage::compare, "compare"}});

struct ExperimentConfig {
    std::string preset = "medium";
    ModelConfig model;

    // Training.
    int64_t batch_size = 16;
    int64_t classic_steps = 3000, warmup_steps = 200, sparse_steps = 3000;
    OptimizerKind optimizer = OptimizerKind::muon;
    bool muon_gates = true;  // false: AdamW for the routers' gates
    PackedMatrices muon_matrices =
        PackedMatrices::whole;  // what older config.json files, which lack it, mean
    double learning_rate = 3e-3, warmup_lr = 1e-3;
    double sparse_learning_rate = 0;  // 0: learning_rate, or a tenth of it with sparse_init = classic
    double indexer_lr = 0;            // 0: warmup_lr in the warm-up, the main model's rate afterwards
    double load_balancing_weight = 0.01, indexer_loss_weight = 1;
    IndexerWarmup indexer_warmup = IndexerWarmup::kl;
    bool indexer_frozen = false;       // the indexer keeps its initial weights
    double bias_update_speed = 0.001;  // of the routers' biases (router sigmoid_bias)
    double weight_decay = 0.1, grad_clip = 1;
    int64_t eval_every = 100, eval_batches = 16;
    SparseInit sparse_init = SparseInit::scratch;
    std::string init_from;  // a Hugging Face folder; empty: random weights
    int64_t seed = 42;

    // Data.
    Task task = Task::text;
    int64_t recall_pairs = 8;
    std::string data, tokenizer;  // empty: the default corpus, a tokenizer trained on it
    std::string text_key = "text";
    Protocol protocol = Protocol::heldout;
    HeldOut held_out = HeldOut::tail;           // what older config.json files, which lack it, mean
    int64_t max_tokens = 0, num_documents = 0;  // 0: all
    double val_fraction = 0.1;
    std::string cache_dir = "data/cache";

    // Running.
    std::string results_dir = "results";
    std::vector<ExperimentStage> stages = {ExperimentStage::classic, ExperimentStage::sparse,
                                           ExperimentStage::compare};
    DeviceChoice device = DeviceChoice::automatic;
    PrecisionChoice precision = PrecisionChoice::fp32;
    int64_t threads = 0;          // 0: the cores that others leave free
    int64_t memory_limit_mb = 0;  // 0: none
    int64_t checkpoint_every = 100;
    bool tensorboard = false;
};

// A named enum, or a list of them, whose type is not known here: read and written by name.
class NamedChoice {
  public:
    template <NamedEnum Enum>
    NamedChoice(Enum* value)  // not explicit: a ConfigValue is made of a pointer, whatever it points to
        : text_([value] { return std::string(name_of(*value)); }),
          set_([value](const std::string& text) { return assign(value_named<Enum>(text), value); }),
          wanted_([](const std::string& text) { return wanted_name(text, names_of<Enum>()); }) {}
    template <NamedEnum Enum>
    NamedChoice(std::vector<Enum>* values)
        : text_([values] { return list_of(*values); }),
          set_([values](const std::string& text) { return assign(values_named<Enum>(text), values); }),
          wanted_([](const std::string& text) { return wanted_names(text, names_of<Enum>()); }) {}

    std::string text() const { return text_(); }
    bool set(const std::string& text) const { return set_(text); }  // false: there is no such name
    std::string wanted(const std::string& text) const {
        return wanted_(text);
    }  // what there is, for an error

  private:
    template <class T>
    static bool assign(const std::optional<T>& from, T* to) {
        if (from) *to = *from;
        return from.has_value();
    }
    std::function<std::string()> text_;
    std::function<bool(const std::string&)> set_;
    std::function<std::string(const std::string&)> wanted_;
};

using ConfigValue = std::variant<int64_t*, double*, std::string*, bool*, PerLayer*, NamedChoice>;

std::string text_of(const ConfigValue& value);
// Throws a usage error that begins with `name` for a text that is not of the value's type.
void set_from_text(const ConfigValue& value, const std::string& name, const std::string& text);
nlohmann::ordered_json json_of(const ConfigValue& value);
// Throws a bad_file error for a value of another type: `place: d_model is "wide", want a whole number`.
void set_from_json(const ConfigValue& value, const std::string& place, const std::string& name,
                   const nlohmann::ordered_json& json);

// What a key is about; several may hold.
enum class KeyNature : unsigned {
    model = 1 << 0,         // what the model is made of and computes
    data = 1 << 1,          // which tokens are trained on, and how they are cut
    training = 1 << 2,      // how the weights are found
    sparse_only = 1 << 3,   // only the sparse variant has it
    classic_only = 1 << 4,  // only the classic variant's training has it
    running = 1 << 5,       // how a run happens; it shapes no result, so config.json does not hold it
    place = 1 << 6,         // what is written where; likewise, and no study can vary it
    label = 1 << 7,         // a name for the other keys' values
    // Of its values:
    may_be_infinite = 1 << 8,  // inf: no limit
    may_be_empty = 1 << 9,     // one may ask for the empty text, also on a command line
};
constexpr KeyNature operator|(KeyNature a, KeyNature b) {
    return static_cast<KeyNature>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}

struct ConfigKey {
    const char* name;
    const char* group;  // heading of the help
    const char* help;
    ConfigValue value;
    KeyNature nature;
    // The largest whole number that is taken: what no machine can do is refused before it is tried, and sizes
    // can be multiplied. 0 for a key of another type.
    int64_t most = 0;

    bool is(KeyNature what) const {
        return (static_cast<unsigned>(nature) & static_cast<unsigned>(what)) != 0;
    }
    bool saved() const { return !is(KeyNature::running | KeyNature::place); }  // part of config.json
};

// Whether the result of this variant's training can depend on the key.
bool concerns(const ConfigKey& key, AttentionKind variant, const ExperimentConfig& config);

// The keys that a person sets.
std::vector<ConfigKey> config_keys(ExperimentConfig& config);
// Before them the two that programs set: preset and attention.
std::vector<ConfigKey> all_config_keys(ExperimentConfig& config);
// One of the keys that a person sets. Throws a usage error for an unknown one, with the nearest name.
ConfigKey config_key(ExperimentConfig& config, const std::string& name);

// One key by its name. set_config_value reads the text as the command line would. Both throw as config_key
// and set_from_text do.
void set_config_value(ExperimentConfig& config, const std::string& key, const std::string& text);
std::string config_value(const ExperimentConfig& config, const std::string& key);

// small, medium, large, long. Throws a usage error that lists them.
void apply_preset(ExperimentConfig& config, const std::string& name);
// What a key says of its own values, whatever the other keys are: numbers are finite and not above `most`,
// texts are UTF-8. Throws a usage error naming the key and its value.
void check_value(const ConfigKey& key);
// check_value of each key, and how they fit together. Throws a usage error naming the key, its value and the
// remedy.
void validate(const ExperimentConfig& config);

// What trains the indexers in this stage: `dense` is the warm-up.
SelectorLoss selector_loss(const ExperimentConfig& config, AttentionStage stage);

// The same for a configuration from a file: a bad_file error that begins with `source`.
void check_config(const ExperimentConfig& config, const std::string& source);

nlohmann::ordered_json config_to_json(const ExperimentConfig& config);
// Reads the keys that are present; unknown keys and wrong types are bad_file errors that begin with `source`.
// With `ignore_unknown`, keys that this program does not know are left aside.
ExperimentConfig config_from_json(const nlohmann::ordered_json& json, const std::string& source,
                                  bool ignore_unknown = false);

void to_json(nlohmann::ordered_json& json, const PerLayer& numbers);  // a number, or a list of them
// "64" or "64,64,32". A usage error that begins with `key` for anything else.
PerLayer per_layer_from_text(const std::string& key, const std::string& text);

}  // namespace sieve
