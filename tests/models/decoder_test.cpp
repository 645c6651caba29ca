#include "models/decoder.h"

#include "framework/autograd/autograd.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "tests/models/variants.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

ModelConfig tiny(const std::string& attention, const std::string& indexer, int64_t top_k) {
    ModelConfig c;
    c.attention = from_name<AttentionKind>("attention", attention);
    c.indexer = from_name<IndexerKind>("indexer", indexer);
    c.vocab_size = 37;
    c.d_model = 24, c.n_heads = 2, c.n_layers = 3, c.d_ff = 20;
    c.max_seq_len = 16;  // the texts below are longer
    c.num_experts = 3, c.expert_top_k = 2;
    c.indexer_heads = 3, c.indexer_dim = 8, c.sparse_top_k = top_k;
    return c;
}

std::vector<int32_t> text(int64_t length, uint64_t seed) {
    return random_tokens({length}, seed, 37).to_vector<int32_t>();
}

// Keys of each layer for each token: selections[layer][t], empty where every key is read.
using Selections = std::vector<std::vector<std::vector<int32_t>>>;

void note_selection(Selections& all, int64_t layer, const AttentionTrace& trace) {
    if (!trace.selection.indices.defined()) return;
    const int64_t T = trace.selection.indices.dim(1), slots = trace.selection.indices.dim(2);
    for (int64_t t = 0; t < T; ++t) {
        const int32_t* first = trace.selection.indices.data<int32_t>() + t * slots;
        all[static_cast<size_t>(layer)].emplace_back(first,
                                                     first + trace.selection.counts.data<int32_t>()[t]);
    }
}

struct Reading {
    Tensor logits;  // [T,V]
    Selections selections;
};

Reading read_whole(const Transformer& model, const std::vector<int32_t>& tokens) {
    const NoGrad guard;
    Reading r{{}, Selections(3)};
    ForwardOptions options;
    options.observe = [&](int64_t layer, const AttentionTrace& trace) {
        note_selection(r.selections, layer, trace);
    };
    r.logits = model.forward(Tensor::from(tokens, {1, static_cast<int64_t>(tokens.size())}), options).logits;
    return r;
}

// The first `prompt` tokens together, the rest one at a time. Logits before prompt - 1 stay zero.
Reading read_by_token(const Transformer& model, const std::vector<int32_t>& tokens, int64_t prompt) {
    const auto T = static_cast<int64_t>(tokens.size());
    Reading r{Tensor::zeros({T, 37}, model.state().front().tensor.dtype()), Selections(3)};
    Decoder decoder(model, [&](int64_t layer, const AttentionTrace& trace) {
        note_selection(r.selections, layer, trace);
    });
    const std::span<const int32_t> all(tokens);
    for (int64_t t = prompt - 1; t < T; ++t) {
        const Tensor logits = t == prompt - 1 ? decoder.read(all.first(static_cast<size_t>(prompt)))
                                              : decoder.read(all.subspan(static_cast<size_t>(t), 1));
        r.logits.rows(t, t + 1).copy_from(logits.alias({1, 37}));
        CHECK(decoder.length() == t + 1);
    }
    return r;
}

void check_decoding(const ModelConfig& config, DType dtype) {
    INFO(name_of(config.attention) << " " << name_of(config.indexer) << " k " << config.sparse_top_k << " "
                                   << std::string(name_of(dtype)));
    const Transformer model(config, ParameterInit{.std = 0.3, .dtype = dtype});
    for (const int64_t T : {1, 2, 40, 131}) {
        const std::vector<int32_t> tokens = text(T, static_cast<uint64_t>(T));
        const Reading whole = read_whole(model, tokens);
        for (const int64_t prompt : {int64_t{1}, T / 2, T}) {
            if (prompt < 1) continue;
            INFO("T " << T << " prompt " << prompt);
            const Reading decoded = read_by_token(model, tokens, prompt);
            CHECK(bit_identical(decoded.logits.rows(prompt - 1, T), whole.logits.rows(prompt - 1, T)));
            CHECK(decoded.selections == whole.selections);
        }
    }
}

}  // namespace

TEST_CASE("decoder: cached decoding gives the bits of the whole forward pass, logits and selections") {
    for (const DType dtype : {DType::float32, DType::float64}) {
        check_decoding(tiny("classic", "plain", 4), dtype);
        for (const char* indexer : {"plain", "deepseek"})
            for (const int64_t k : {1, 4, 20, 100}) check_decoding(tiny("sparse", indexer, k), dtype);
    }
}

TEST_CASE("decoder: the same in every precision of the indexer") {
    for (const char* precision : {"bf16", "fp8", "int8"})
        for (const char* indexer : {"plain", "deepseek"}) {
            ModelConfig config = tiny("sparse", indexer, 6);
            config.indexer_precision = from_name<IndexerPrecision>("indexer_precision", precision);
            check_decoding(config, DType::float32);
        }
}

TEST_CASE("decoder: the same in every variant of the model") {
    for (const Variant& variant : model_variants())
        for (const char* attention : {"classic", "sparse"}) {
            INFO(variant.name << ", " << attention);
            ModelConfig config = tiny_variant(variant, attention);
            const Transformer model(config, ParameterInit{.std = 0.4});
            const std::vector<int32_t> tokens = random_tokens({40}, 3, 13).to_vector<int32_t>();
            const NoGrad guard;
            const Tensor whole = model.forward(Tensor::from(tokens, {1, 40}), {}).logits;
            Decoder decoder(model);
            const std::span<const int32_t> all(tokens);
            decoder.read(all.first(9));
            for (int64_t t = 9; t < 40; ++t)
                CHECK(bit_identical(decoder.read(all.subspan(static_cast<size_t>(t), 1)).alias({1, 13}),
                                    whole.rows(t, t + 1)));
        }
}

TEST_CASE("decoder: texts beside each other have the bits of each alone, in every variant") {
    for (const Variant& variant : model_variants())
        for (const char* attention : {"classic", "sparse"}) {
            INFO(variant.name << ", " << attention);
            const Transformer model(tiny_variant(variant, attention), ParameterInit{.std = 0.4});
            const std::vector<int64_t> starts = {1, 17, 6};
            std::vector<std::vector<int32_t>> texts;
            std::vector<Tensor> whole;
            const NoGrad guard;
            for (const uint64_t seed : {3, 4, 5}) {
                texts.push_back(random_tokens({30}, seed, 13).to_vector<int32_t>());
                whole.push_back(model.forward(Tensor::from(texts.back(), {1, 30}), {}).logits);
            }
            Decoder decoder(model, {}, 3);
            std::vector<int64_t> at = starts;
            for (int64_t i = 0; i < 3; ++i) {
                const auto s = static_cast<size_t>(i);
                decoder.read(std::span(texts[s]).first(static_cast<size_t>(starts[s])), i);
            }
            // Text 1 ends first; then the two others go on, in another order.
            for (int64_t step = 0; step < 20; ++step) {
                const std::vector<int64_t> on =
                    at[1] < 30 ? std::vector<int64_t>{0, 1, 2} : std::vector<int64_t>{2, 0};
                std::vector<int32_t> next;
                for (const int64_t i : on)
                    next.push_back(
                        texts[static_cast<size_t>(i)][static_cast<size_t>(at[static_cast<size_t>(i)])]);
                const Tensor logits = decoder.read_one_each(on, next);
                for (size_t row = 0; row < on.size(); ++row) {
                    const auto i = static_cast<size_t>(on[row]);
                    const auto r = static_cast<int64_t>(row);
                    CHECK(bit_identical(logits.rows(r, r + 1), whole[i].rows(at[i], at[i] + 1)));
                    ++at[i];
                    CHECK(decoder.length(on[row]) == at[i]);
                }
            }
            decoder.clear(1);
            CHECK(decoder.length(1) == 0);
            CHECK(bit_identical(decoder.read(std::span(texts[1]).first(9), 1).alias({1, 13}),
                                whole[1].rows(8, 9)));
        }
}

TEST_CASE("decoder: the bits do not depend on threads") {
    const Transformer model(tiny("sparse", "deepseek", 5), ParameterInit{.std = 0.3});
    const std::vector<int32_t> tokens = text(50, 1);
    const int before = thread_count();
    set_thread_count(1);
    const Reading one = read_by_token(model, tokens, 20);
    set_thread_count(3);
    CHECK(bit_identical(read_by_token(model, tokens, 20).logits, one.logits));
    set_thread_count(before);
}

TEST_CASE("decoder: a second read of several tokens goes on where the first ended") {
    const Transformer model(tiny("sparse", "plain", 5), ParameterInit{.std = 0.3});
    const std::vector<int32_t> tokens = text(30, 2);
    const std::span<const int32_t> all(tokens);
    Decoder decoder(model), other(model);
    decoder.read(all.first(9));
    other.read(all.first(9));
    Tensor last;
    for (size_t t = 9; t < 30; ++t) last = other.read(all.subspan(t, 1));
    CHECK(bit_identical(decoder.read(all.subspan(9)), last));
    CHECK(decoder.length() == 30);
}

TEST_CASE("decoder: what it cannot do is refused by name") {
    const Transformer model(tiny("sparse", "plain", 5), ParameterInit{});
    Decoder decoder(model);
    check_error("decoder: no tokens to read", [&] { decoder.read({}); });
    std::vector<AttentionCache> cache(3), short_cache(2);
    const Tensor three = random_tokens({1, 3}, 1, 37);
    Generator rng(1);
    Decoder two(model, {}, 2);
    const std::vector<int32_t> tokens = {1, 2};
    two.read({tokens.data(), 1}, 0);
    const auto read = [&](const std::vector<int64_t>& texts) { two.read_one_each(texts, tokens); };
    check_error("decoder: 2 tokens for 1 texts", [&] { read({0}); });
    check_error("forward: a text is empty; read its first tokens alone", [&] { read({0, 1}); });
    check_error("forward: a text is given twice; it takes one token at a time", [&] { read({0, 0}); });
    check_error("decoder: 0 texts, want at least 1", [&] { Decoder(model, {}, 0); });
    check_error("decoder: an observer sees one text alone", [&] {
        Decoder(
            model, [](int64_t, const AttentionTrace&) {}, 2);
    });
    check_error("forward: 2 attention caches for 3 layers",
                [&] { model.forward(three, {.cache = &short_cache}); });
    const std::string inference =
        "forward: a cache is for inference; it goes with neither dropout nor the indexer's loss";
    check_error(inference, [&] { model.forward(three, {.rng = &rng, .cache = &cache}); });
    check_error(inference, [&] { model.forward(three, {.indexer_loss = true, .cache = &cache}); });
    model.forward(three, {.cache = &cache});
    check_error("forward: 3 tokens after 3 cached ones; give them one at a time",
                [&] { model.forward(three, {.cache = &cache}); });
    check_error("decode_attention: has no gradient; call it under NoGrad", [&] {
        model.forward(random_tokens({1, 1}, 1, 37), {.cache = &cache});
    });
}
