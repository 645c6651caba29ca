#include "framework/runs/setting_notes.h"

#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

ExperimentConfig config_of(int64_t seq_len, const PerLayer& top_k) {
    ExperimentConfig c;
    c.model.n_layers = 2, c.model.max_seq_len = seq_len, c.model.sparse_top_k = top_k;
    return c;
}

// The one note, or what there is in place of it.
std::string note(const ExperimentConfig& config, bool sparse = true) {
    const std::vector<std::string> notes = setting_notes(config, sparse);
    if (notes.size() != 1) return std::to_string(notes.size()) + " notes";
    return notes[0];
}

}  // namespace

TEST_CASE("setting notes: a selection that leaves out nothing, or next to nothing") {
    CHECK(note(config_of(128, 16)) == "0 notes");
    CHECK(note(config_of(128, 128))
              .starts_with("sparse_top_k 128 of 128 tokens leaves out no key: the sparse model is"));
    CHECK(note(config_of(128, 500)).starts_with("sparse_top_k 500 of 128 tokens leaves out no key"));
    CHECK(note(config_of(128, 500), false) == "0 notes");
    CHECK(note(config_of(128, PerLayer({16, 128}))) ==
          "sparse_top_k 16,128 of 128 tokens leaves out no key in 1 of 2 layers: they are dense");
    // Of 4 tokens and k = 3 only the last query has a choice: 3 of its 4 keys are read whatever is chosen.
    CHECK(note(config_of(4, 3)).find("random keys would be 75 % of those") != std::string::npos);
    // Of 6 and k = 2: 2/3, 2/4, 2/5 and 2/6 of the keys, 47.5 % in the mean.
    CHECK(note(config_of(6, 2)) == "0 notes");
    CHECK(note(config_of(6, PerLayer({2, 5}))).find("random keys would be 83 % of those") !=
          std::string::npos);
}

TEST_CASE("setting notes: routers that the language model does not train") {
    ExperimentConfig c = config_of(128, 16);
    c.model.num_experts = 2, c.model.expert_top_k = 1;
    CHECK(note(c).starts_with(
        "expert_top_k 1 with router_weights selected: a token's one weight is always 1, so"));
    CHECK(note(c, false) == note(c));
    c.model.router = RouterKind::sigmoid_bias, c.model.routed_scaling_factor = 2.5;
    CHECK(note(c).starts_with(
        "expert_top_k 1 with router sigmoid_bias: a token's one weight is always 2.5, so"));
    CHECK(note(c).ends_with("give --expert_top_k 2 or --norm_topk_prob=false"));
    c.model.norm_topk_prob = false;
    CHECK(note(c) == "0 notes");
    c.model.norm_topk_prob = true;
    c.model.router = RouterKind::softmax, c.model.router_weights = RouterWeights::straight_through;
    CHECK(note(c) == "0 notes");
    c.model.router_weights = RouterWeights::selected, c.model.expert_top_k = 2;
    CHECK(note(c) == "0 notes");
    c.model.expert_top_k = 1, c.model.ffn_layers = "DD";
    CHECK(note(c) == "0 notes");
    c.model.ffn_layers = "MD";
    CHECK(note(c) != "0 notes");
    c.model.num_experts = c.model.expert_top_k = 1;  // nothing to route
    CHECK(note(c) == "0 notes");
}
