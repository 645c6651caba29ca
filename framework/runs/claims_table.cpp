// The table of claims. The original is the experiment that this project re-creates (docs/method.md).
#include <tuple>

#include "framework/runs/claims.h"

namespace sieve {
namespace {

constexpr AttentionKind classic = AttentionKind::classic, sparse = AttentionKind::sparse;
using Keys = std::vector<std::pair<std::string, std::string>>;

// The original's data: 50,000 tokens in overlapping windows, split at random, for the steps of its earlier
// experiment.
const Keys leaking_split{{"protocol", "overlap"},
                         {"max_tokens", "50000"},
                         {"classic_steps", "10000"},
                         {"sparse_steps", "10000"},
                         {"eval_every", "500"}};

ClaimRun small(AttentionKind variant, Keys keys = {}) {
    return {.preset = "small", .keys = std::move(keys), .variant = variant};
}

ClaimRun by_selector(const char* selector) {
    return {.preset = "long", .keys = {{"selector", selector}}, .variant = sparse};
}
const ClaimRun long_classic{.preset = "long", .variant = classic};

// 4 pairs of a letter and a digit in sequences of 64 or 256, for a model that learns to find them in minutes; the
// sparse models go on from the trained classic one. With rope_base 100 neighbours differ enough in their angles
// to be told apart early.
ClaimRun recall(const char* length, AttentionKind variant, const char* selector = "indexer",
                const char* k = "8") {
    return small(variant, {{"task", "recall"},
                           {"recall_pairs", "4"},
                           {"max_seq_len", length},
                           {"batch_size", std::string(length) == "64" ? "32" : "16"},
                           {"d_model", "64"},
                           {"n_heads", "2"},
                           {"n_layers", "2"},
                           {"d_ff", "128"},
                           {"rope_base", "100"},
                           {"dropout", "0"},
                           {"classic_steps", "3000"},
                           {"sparse_steps", "300"},
                           {"sparse_init", "classic"},
                           {"selector", selector},
                           {"sparse_top_k", k}});
}

// Small's model at another length, half of whose keys a query reads; 2048 tokens a step.
ClaimRun half_of_keys(AttentionKind variant, const char* length, const char* batch, const char* k,
                      bool leaks) {
    Keys keys{{"max_seq_len", length}, {"batch_size", batch}, {"sparse_top_k", k}};
    if (leaks) keys.emplace_back("i_know_this_leaks", "true");
    return small(variant, keys);
}

// Windows of `length` tokens, 8192 tokens a step.
ClaimRun steps_at(const char* length, const char* batch) {
    return {
        .preset = "medium", .keys = {{"max_seq_len", length}, {"batch_size", batch}}, .steps_in_turns = true};
}
const ClaimRun steps_512 = steps_at("512", "16"), steps_2048 = steps_at("2048", "4"),
               steps_8192 = steps_at("8192", "1");

ClaimRun steps_of(const char* preset) {
    return {.preset = preset, .steps_in_turns = true};
}

// A row for each data protocol and variant.
std::vector<ClaimRow> under_both_protocols(const char* metric, Range claimed) {
    std::vector<ClaimRow> rows;
    for (const AttentionKind variant : {classic, sparse})
        for (const bool overlap : {false, true})
            rows.push_back({.setting = std::string(name_of(variant)) +
                                       (overlap ? ", overlap, 50,000 tokens, 10,000 steps" : ", heldout"),
                            .metric = metric,
                            .run = small(variant, overlap ? leaking_split : Keys{}),
                            .claimed = claimed});
    return rows;
}

// Of one run alone.
ClaimRow measured(std::string setting, const char* metric, ClaimRun run, std::optional<Range> claimed,
                  std::optional<Range> quick = {}) {
    return {.setting = std::move(setting),
            .metric = metric,
            .run = std::move(run),
            .claimed = claimed,
            .quick = quick};
}

ClaimRow compared(std::string setting, const char* metric, Comparison comparison, ClaimRun run,
                  ClaimRun reference, std::optional<Range> claimed = {}, std::optional<Range> quick = {}) {
    return {.setting = std::move(setting),
            .metric = metric,
            .comparison = comparison,
            .run = std::move(run),
            .reference = std::move(reference),
            .claimed = claimed,
            .quick = quick};
}

const Range above_zero{.least = 0};

Claim quality() {
    const Range claimed{.most = 0.05}, quick{.most = 0.05};
    return {.name = "within_5_percent",
            .text = "The sparse model's validation loss is within 5 % of the classic one's (the original)",
            .rows = {compared("small, heldout", "val_loss", Comparison::relative, small(sparse),
                              small(classic), claimed, quick),
                     compared("small, overlap, 50,000 tokens", "val_loss", Comparison::relative,
                              small(sparse, leaking_split), small(classic, leaking_split), claimed),
                     compared("medium, heldout", "val_loss", Comparison::relative,
                              {.preset = "medium", .variant = sparse},
                              {.preset = "medium", .variant = classic}, claimed),
                     compared("long, heldout, 32 of 1024 keys", "val_loss", Comparison::relative,
                              by_selector("indexer"), long_classic, claimed)}};
}

Claim selection_matters() {
    const auto row = [](const char* worse, const char* better, const char* metric, Comparison comparison,
                        std::optional<Range> claimed, std::optional<Range> quick = {}) {
        return compared(std::string(worse) + " against " + better, metric, comparison, by_selector(worse),
                        by_selector(better), claimed, quick);
    };
    return {
        .name = "selection_matters",
        .text =
            "At 1024 tokens and 32 keys the choice of keys decides the loss: random keys are worse than the "
            "best ones by at least five times the deviation between seeds (this project)",
        .rows = {row("random", "oracle", "val_loss", Comparison::gap, Range{.least = 5}),
                 row("random", "oracle", "val_loss", Comparison::difference, above_zero, above_zero),
                 row("random", "indexer", "val_loss", Comparison::difference, above_zero),
                 row("recent", "oracle", "val_loss", Comparison::difference, {}),
                 row("recent", "indexer", "val_loss", Comparison::difference, {}),
                 row("indexer", "oracle", "val_loss", Comparison::difference, {}),
                 compared("oracle against classic", "val_loss", Comparison::difference, by_selector("oracle"),
                          long_classic)}};
}

Claim recall_task() {
    Claim claim{
        .name = "recall",
        .text =
            "Where one key holds the answer, the indexer's keys give nearly (within 5 points) as many "
            "right answers as all keys do (this project; chance is 10 %)"};
    const auto add = [&](const char* length, std::initializer_list<const char*> keys, bool long_only) {
        const std::string tokens = std::string(length) + " tokens: ";
        claim.rows.push_back({.setting = tokens + "classic, the ceiling; below 90 % the task was not learned",
                              .metric = "answer_accuracy",
                              .run = recall(length, classic),
                              .claimed = Range{.least = 0.9},
                              .long_only = long_only});
        for (const char* k : keys)
            for (const char* selector : {"indexer", "oracle", "recent", "random"}) {
                const bool judged = std::string(selector) == "indexer";
                claim.rows.push_back(compared(tokens + selector + ", k = " + k + ", less classic",
                                              "answer_accuracy", Comparison::difference,
                                              recall(length, sparse, selector, k), recall(length, classic),
                                              judged ? std::optional(Range{.least = -0.05}) : std::nullopt));
                claim.rows.back().long_only = long_only;
            }
    };
    add("64", {"4", "8", "16"}, false);
    add("256", {"8", "16", "32"}, true);
    return claim;
}

Claim learnable() {
    return {
        .name = "indexer_learnable",
        .text =
            "Warm-up and joint training teach the indexer which keys attention reads (the original): recall "
            "above chance, 0 for random keys and 1 for the best ones, is above 0",
        .rows = {
            measured("small, heldout", "indexer_recall_above_chance", small(sparse), above_zero, above_zero),
            measured("small, overlap", "indexer_recall_above_chance", small(sparse, leaking_split),
                     above_zero),
            measured("long, heldout", "indexer_recall_above_chance", by_selector("indexer"), above_zero),
            measured("long, heldout: covered mass above chance", "indexer_mass_above_chance",
                     by_selector("indexer"), above_zero)}};
}

Claim speed() {
    const Range claimed{.least = 1.4};
    const auto row = [&](const char* setting, ClaimRun run) {
        return ClaimRow{.setting = setting, .metric = "speedup", .run = std::move(run), .claimed = claimed};
    };
    return {.name = "faster",
            .text =
                "A sparse step is 1.4 to 1.7 times as fast (the original, a projection): classic seconds "
                "over sparse "
                "seconds, at least 1.4",
            .rows = {row("small: 64 tokens, k = 32", steps_of("small")),
                     row("medium: 128 tokens, k = 64", steps_of("medium")),
                     row("long: 1024 tokens, k = 32", steps_of("long")),
                     row("medium's model, 8192 tokens, k = 64", steps_8192)}};
}

Claim memory() {
    const Range claimed{.most = -0.2};
    const auto row = [&](const char* setting, ClaimRun run) {
        return ClaimRow{
            .setting = setting, .metric = "memory_change", .run = std::move(run), .claimed = claimed};
    };
    return {.name = "less_memory",
            .text =
                "A sparse step needs 20 to 30 % less memory (the original, a projection): the tensors' peak "
                "against "
                "classic attention in tiles, at least 20 % less",
            .rows = {row("small: 64 tokens, k = 32", steps_of("small")),
                     row("medium: 128 tokens, k = 64", steps_of("medium")),
                     row("long: 1024 tokens, k = 32", steps_of("long")),
                     row("medium's model, 8192 tokens, k = 64", steps_8192)}};
}

Claim grows_with_length() {
    return {.name = "grows_with_length",
            .text =
                "The benefit grows with the length (the original): the speed-up at one length less that at a "
                "shorter "
                "one, k = 64, is above 0",
            .rows = {compared("2048 less 512 tokens", "speedup", Comparison::difference, steps_2048,
                              steps_512, above_zero),
                     compared("8192 less 2048 tokens", "speedup", Comparison::difference, steps_8192,
                              steps_2048, above_zero),
                     compared("8192 less 512 tokens", "speedup", Comparison::difference, steps_8192,
                              steps_512, above_zero)}};  // of a clock: --quick asks for no sign
}

Claim sparsity() {
    const Range claimed{.least = 0.4, .most = 0.6};
    const auto row = [&](std::string setting, const char* metric, const char* preset,
                         std::optional<Range> judged) {
        return ClaimRow{.setting = std::move(setting),
                        .metric = metric,
                        .run = {.preset = preset, .variant = sparse},
                        .claimed = judged,
                        .quick = judged ? std::optional(Range{.least = 0.3, .most = 0.99}) : std::nullopt};
    };
    return {.name = "sparsity",
            .text =
                "40 to 60 % of the attention matrix is not read (the original, which counted the square, "
                "future keys "
                "included); length and k alone decide it",
            .rows = {row("small, of the square", "sparsity_square", "small", claimed),
                     row("small, of the causal triangle", "sparsity_causal", "small", {}),
                     row("medium, of the square", "sparsity_square", "medium", claimed),
                     row("medium, of the causal triangle", "sparsity_causal", "medium", {})}};
}

Claim stable() {
    const Range finished{.least = 1}, near_best{.most = 0.02};
    return {
        .name = "stable",
        .text =
            "Sparse training is stable (the original): every training reaches its last step, and ends within "
            "2 % "
            "of its lowest validation loss",
        .rows = {
            measured("small: share that ended", "finished", small(sparse), finished, finished),
            measured("long: share that ended", "finished", by_selector("indexer"), finished),
            measured("small: last loss over lowest", "loss_above_best", small(sparse), near_best),
            measured("small, overlap: last loss over lowest", "loss_above_best", small(sparse, leaking_split),
                     near_best),
            measured("long: last loss over lowest", "loss_above_best", by_selector("indexer"), near_best)}};
}

Claim few_heads() {
    const auto row = [](const char* heads, const char* metric, Comparison comparison,
                        std::optional<Range> claimed) {
        return compared(std::string(heads) + " against 8 heads", metric, comparison,
                        small(sparse, {{"indexer_heads", heads}}), small(sparse, {{"indexer_heads", "8"}}),
                        claimed);
    };
    const Range claimed{.most = 0.01};
    return {.name = "few_heads",
            .text =
                "Few heads of the indexer suffice (the original): the validation loss is within 1 % of that "
                "with 8",
            .rows = {row("1", "val_loss", Comparison::relative, claimed),
                     row("2", "val_loss", Comparison::relative, claimed),
                     row("1", "indexer_recall_above_chance", Comparison::difference, {}),
                     row("2", "indexer_recall_above_chance", Comparison::difference, {})}};
}

Claim warmup() {
    const Keys none{{"warmup_steps", "0"}};
    return {.name = "warmup",
            .text =
                "The indexer's warm-up by the alignment loss pays (the original, DeepSeek): with it less "
                "loss, and "
                "more recall, than without",
            .rows = {compared("small: loss without less loss with", "val_loss", Comparison::difference,
                              small(sparse, none), small(sparse), above_zero),
                     compared("small: recall above chance with less without", "indexer_recall_above_chance",
                              Comparison::difference, small(sparse), small(sparse, none), above_zero)}};
}

Claim from_scratch() {
    const Keys continued{{"sparse_init", "classic"}, {"classic_steps", "750"}, {"sparse_steps", "750"}};
    return {.name = "not_from_scratch",
            .text =
                "Sparse attention cannot be trained from scratch (claimed elsewhere): at equal tokens (1500 "
                "steps, "
                "against 750 classic and 750 sparse ones) its loss is more than 5 % higher",
            .rows = {compared("small, heldout: scratch against continued", "val_loss", Comparison::relative,
                              small(sparse), small(sparse, continued), Range{.least = 0.05})}};
}

Claim shared_selection() {
    const Keys shared{{"index_share", "FSFS"}};
    return {.name = "shared_selection",
            .text =
                "Every second layer can read the keys that the layer before chose (IndexCache): the loss "
                "rises by "
                "at most 1 %",
            .rows = {compared("small, FSFS against FFFF", "val_loss", Comparison::relative,
                              small(sparse, shared), small(sparse), Range{.most = 0.01}),
                     compared("long, FSFS against FFFF", "val_loss", Comparison::relative,
                              {.preset = "long", .keys = shared, .variant = sparse}, by_selector("indexer"),
                              Range{.most = 0.01})}};
}

Claim heads_differ() {
    const Range claimed{.most = 0.5};
    return {.name = "heads_differ",
            .text =
                "The indexer's heads learn different patterns (the original): what two heads, each alone, "
                "would select overlaps by at most half, 0 being the overlap of heads that have nothing to "
                "do with each other and 1 that of heads that select the same",
            .rows = {measured("small, 2 heads", "indexer_heads_overlap", small(sparse), claimed, claimed),
                     measured("small, 8 heads", "indexer_heads_overlap",
                              small(sparse, {{"indexer_heads", "8"}}), claimed),
                     measured("medium, 4 heads", "indexer_heads_overlap",
                              {.preset = "medium", .variant = sparse}, claimed),
                     measured("long, 2 heads", "indexer_heads_overlap", by_selector("indexer"), claimed),
                     measured("small, 2 heads: what a head's scores decide", "indexer_heads_decided",
                              small(sparse), {}),
                     measured("long, 2 heads: what a head's scores decide", "indexer_heads_decided",
                              by_selector("indexer"), {})}};
}

Claim entropy_warmup() {
    const ClaimRun kl = small(sparse), entropy = small(sparse, {{"indexer_warmup", "entropy"}}),
                   none = small(sparse, {{"warmup_steps", "0"}});
    const char *loss = "val_loss", *recall = "indexer_recall_above_chance";
    return {.name = "entropy_warmup",
            .text =
                "The original's warm-up, which maximises the entropy of the indexer's scores, teaches it "
                "less than the one by the alignment loss (this project): with it more loss, and less recall",
            .rows = {compared("small: loss, by entropy less by alignment", loss, Comparison::difference,
                              entropy, kl, above_zero),
                     compared("small: recall above chance, by alignment less by entropy", recall,
                              Comparison::difference, kl, entropy, above_zero),
                     compared("small: loss, by entropy less without warm-up", loss, Comparison::difference,
                              entropy, none),
                     compared("small: recall above chance, by entropy less without warm-up", recall,
                              Comparison::difference, entropy, none)}};
}

Claim full_row_loss() {
    const ClaimRun full = small(sparse, {{"indexer_loss", "full_row"}});
    return {
        .name = "full_row_loss",
        .text =
            "An alignment loss over all earlier keys, in place of the selected ones, finds more of the "
            "keys that attention looks at, and lowers the loss (this project)",
        .rows = {compared("small: recall above chance, full row less selected", "indexer_recall_above_chance",
                          Comparison::difference, full, small(sparse), above_zero),
                 compared("small: loss, full row less selected", "val_loss", Comparison::difference, full,
                          small(sparse), Range{.most = 0})}};
}

Claim leak() {
    Claim claim{.name = "leak",
                .text =
                    "The original's selector, whose first k - 1 queries read later tokens, makes the loss "
                    "seem lower than it is (this project): with it less without it is below 0, k half of "
                    "the length"};
    const Range seems_lower{.most = 0};
    for (const auto& [length, batch, k] :
         {std::tuple{"64", "32", "32"}, std::tuple{"128", "16", "64"}, std::tuple{"256", "8", "128"}}) {
        const bool shortest = std::string(length) == "64";
        const std::string tokens = std::string(length) + " tokens: ";
        const ClaimRun leaking = half_of_keys(sparse, length, batch, k, true);
        claim.rows.push_back(compared(tokens + "leaking less honest", "val_loss", Comparison::difference,
                                      leaking, half_of_keys(sparse, length, batch, k, false), seems_lower,
                                      shortest ? std::optional(seems_lower) : std::nullopt));
        claim.rows.push_back(compared(tokens + "leaking against classic", "val_loss", Comparison::relative,
                                      leaking, half_of_keys(classic, length, batch, k, false)));
        for (ClaimRow* row : {&claim.rows.back() - 1, &claim.rows.back()}) row->long_only = !shortest;
    }
    return claim;
}

std::vector<Claim> table() {
    return {{.name = "loss",
             .text = "Validation loss about 0.06 for both models (the original): at most 0.07",
             .rows = under_both_protocols("val_loss", {.most = 0.07})},
            {.name = "accuracy",
             .text = "Accuracy 98.5 to 98.7 % for both models (the original): at least 98.5 %",
             .rows = under_both_protocols("val_accuracy", {.least = 0.985})},
            {.name = "perplexity",
             .text = "Perplexity 1.06 for both models (the original): at most 1.07",
             .rows = under_both_protocols("val_perplexity", {.most = 1.07})},
            quality(),
            speed(),
            memory(),
            sparsity(),
            stable(),
            learnable(),
            heads_differ(),
            few_heads(),
            grows_with_length(),
            selection_matters(),
            recall_task(),
            warmup(),
            from_scratch(),
            shared_selection(),
            leak(),
            entropy_warmup(),
            full_row_loss()};
}

}  // namespace

const std::vector<Claim>& claims() {
    static const std::vector<Claim> all = table();
    return all;
}

}  // namespace sieve
