#include "framework/runs/setting_notes.h"

#include <fmt/format.h>

#include <algorithm>

namespace sieve {
namespace {

constexpr double near_certain = 0.6;

// The recall of k random keys, k / (t + 1), meaned over the queries that have a choice: t in [k, T).
double chance_of_choices(int64_t T, int64_t k) {
    double sum = 0;
    for (int64_t t = k; t < T; ++t) sum += static_cast<double>(k) / static_cast<double>(t + 1);
    return sum / static_cast<double>(T - k);
}

void note_selection(const ModelConfig& m, std::vector<std::string>& notes) {
    const int64_t T = m.max_seq_len;
    if (m.selects_all()) {
        notes.push_back(fmt::format(
            "sparse_top_k {} of {} tokens leaves out no key: the sparse model is a dense one, and "
            "its loss and selection say nothing; lower --sparse_top_k",
            to_string(m.sparse_top_k), T));
        return;
    }
    int64_t all_read = 0;
    double chance = 0;  // the highest of a layer that has a choice
    for (int64_t layer = 0; layer < m.n_layers; ++layer) {
        const int64_t k = m.sparse_top_k.of(layer);
        if (k >= T) ++all_read;
        if (k < T) chance = std::max(chance, chance_of_choices(T, k));
    }
    if (all_read > 0)
        notes.push_back(
            fmt::format("sparse_top_k {} of {} tokens leaves out no key in {} of {} layers: they are dense",
                        to_string(m.sparse_top_k), T, all_read, m.n_layers));
    if (chance >= near_certain)
        notes.push_back(
            fmt::format("sparse_top_k {} of {} tokens: random keys would be {:.0f} % of those that a query "
                        "with a choice should read, so recall and loss hardly tell a good selection from a "
                        "bad one; lower --sparse_top_k or raise --max_seq_len to see one",
                        to_string(m.sparse_top_k), T, 100 * chance));
}

}  // namespace

std::vector<std::string> setting_notes(const ExperimentConfig& config, bool sparse) {
    std::vector<std::string> notes;
    const ModelConfig& m = config.model;
    if (sparse && m.leaks) notes.push_back(leak_text(m));
    if (sparse) note_selection(m, notes);
    if (m.has_experts() && m.num_experts > 1 && !m.trains_router())
        notes.push_back(fmt::format(
            "expert_top_k 1 with {}: a token's one weight is always {:g}, so the loss of the language "
            "model does not reach the routers and only load balancing moves them; {}",
            m.router == RouterKind::softmax ? "router_weights selected" : "router sigmoid_bias",
            m.router == RouterKind::softmax ? 1 : m.routed_scaling_factor,
            m.router == RouterKind::softmax ? "give --expert_top_k 2 or another --router_weights"
                                            : "give --expert_top_k 2 or --norm_topk_prob=false"));
    return notes;
}

}  // namespace sieve
