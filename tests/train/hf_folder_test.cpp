// Models in Hugging Face folders, which the tests write themselves; transformers_test.cpp has those of the package.
#include "framework/train/hf_folder.h"

#include <cmath>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/error.h"
#include "framework/data/tokenizer.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/io/little_endian.h"
#include "framework/io/safetensors_folder.h"
#include "framework/program/hf_config.h"
#include "framework/train/model_file.h"
#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

Json tiny_document(const std::string& type = "deepseek_v32") {
    return {{"model_type", type},
            {"vocab_size", 300},
            {"hidden_size", 12},
            {"intermediate_size", 10},
            {"moe_intermediate_size", 6},
            {"num_hidden_layers", 2},
            {"num_attention_heads", 2},
            {"n_routed_experts", 2},
            {"num_experts_per_tok", 1},
            {"n_group", 1},
            {"topk_group", 1},
            {"kv_lora_rank", 8},
            {"q_lora_rank", 7},
            {"qk_rope_head_dim", 4},
            {"qk_nope_head_dim", 6},
            {"v_head_dim", 5},
            {"index_topk", 6},
            {"index_head_dim", 8},
            {"index_n_heads", 3},
            {"first_k_dense_replace", 1},
            {"max_position_embeddings", 32}};
}

FinalModel random_model(const Json& document) {
    FinalModel m;
    read_hf_config(document, "c.json", m.config);
    m.model = std::make_unique<Transformer>(m.config.model, ParameterInit{.std = 0.3});
    m.tokenizer_json = Tokenizer::train("a text of some words and more of them", 280).to_json();
    const NoGrad guard;
    for (const NamedTensor& t : m.model->state())  // no two alike, the norms and the biases too
        if (t.tensor.rank() == 1)
            t.tensor.copy_from(random_uniform(t.tensor.shape(), t.name.size(), 0.5, 1.5));
    return m;
}

void check_same(const Transformer& a, const Transformer& b) {
    const NamedTensors first = a.state(), second = b.state();
    REQUIRE(first.size() == second.size());
    for (size_t i = 0; i < first.size(); ++i) {
        CHECK(first[i].name == second[i].name);
        CHECK_MESSAGE(bit_identical(first[i].tensor, second[i].tensor), first[i].name);
    }
}

// A folder of such a model with some of its tensors changed.
class Folder {
  public:
    explicit Folder(const Json& document = tiny_document())
        : model_(random_model(document)), document_(document) {
        write_hf_folder(path(), model_, {});
        for (const NamedTensor& t : read_safetensors(path() + "/model.safetensors").tensors)
            tensors_[t.name] = t.tensor;
    }

    std::string path() const { return folder_ / "model"; }
    const FinalModel& model() const { return model_; }
    std::map<std::string, Tensor>& tensors() { return tensors_; }
    // E4M3 and what it is multiplied with.
    void set_fp8(const std::string& name, const std::string& bytes, const Shape& shape,
                 const Tensor& scales) {
        tensors_.erase(name);
        fp8_[name] = {name, "F8_E4M3", shape, bytes};
        if (scales.defined()) tensors_[name + "_scale_inv"] = scales;
    }
    void write() const {
        std::vector<TensorPayload> payloads;
        for (const auto& [name, tensor] : tensors_)
            payloads.push_back({name, "F32", tensor.shape(), bytes_of(tensor)});
        for (const auto& [name, payload] : fp8_) payloads.push_back(payload);
        write_safetensors(path() + "/model.safetensors", payloads, {{"format", "pt"}});
    }
    void set_config(const char* key, const Json& value) {
        document_[key] = value;
        write_json_atomic(path() + "/config.json", document_);
    }
    void refused(const std::string& sentence) const {
        write();
        try {
            read_hf_folder(path());
            FAIL("was read");
        } catch (const Error& e) {
            CHECK(e.kind() == ErrorKind::bad_file);
            CHECK(std::string(e.what()) == path() + ": " + sentence);
        }
    }

  private:
    TemporaryFolder folder_;
    FinalModel model_;
    Json document_;
    std::map<std::string, Tensor> tensors_;
    std::map<std::string, TensorPayload> fp8_;
};

const std::string layer1 = "model.layers.1.", experts1 = layer1 + "mlp.experts.";

// What a folder's reading says on stderr, by the tool that reads it.
std::string said_of(const std::string& folder) {
    std::string output;
    const int status = run_command(
        source_dir() + "/tools/export_model --checkpoint " + folder + " --output " + folder + "_copy/",
        output);
    INFO(output);
    CHECK(status == 0);
    return output;
}

}  // namespace

TEST_CASE("hf folder: the names of DeepSeek-V3.2's tensors") {
    Folder folder;
    std::vector<std::string> names;
    for (const auto& [name, tensor] : folder.tensors()) names.push_back(name);
    std::vector<std::string> want{"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"};
    for (const std::string layer : {"model.layers.0.", "model.layers.1."})
        for (const char* part :
             {"input_layernorm.weight", "post_attention_layernorm.weight", "self_attn.q_a_proj.weight",
              "self_attn.q_a_layernorm.weight", "self_attn.q_b_proj.weight",
              "self_attn.kv_a_proj_with_mqa.weight", "self_attn.kv_a_layernorm.weight",
              "self_attn.kv_b_proj.weight", "self_attn.o_proj.weight", "self_attn.indexer.wq_b.weight",
              "self_attn.indexer.wk.weight", "self_attn.indexer.k_norm.weight",
              "self_attn.indexer.k_norm.bias", "self_attn.indexer.weights_proj.weight"})
            want.push_back(layer + part);
    for (const char* part : {"mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight"})
        want.push_back(std::string("model.layers.0.") + part);
    for (const char* part :
         {"mlp.gate.weight", "mlp.gate.e_score_correction_bias", "mlp.experts.0.gate_proj.weight",
          "mlp.experts.0.up_proj.weight", "mlp.experts.0.down_proj.weight", "mlp.experts.1.gate_proj.weight",
          "mlp.experts.1.up_proj.weight", "mlp.experts.1.down_proj.weight",
          "mlp.shared_experts.gate_proj.weight", "mlp.shared_experts.up_proj.weight",
          "mlp.shared_experts.down_proj.weight"})
        want.push_back(layer1 + part);
    std::sort(want.begin(), want.end());
    CHECK(names == want);
}

TEST_CASE("hf folder: weights keep their bits through folders of every type") {
    for (const char* type : {"deepseek_v32", "glm_moe_dsa", "deepseek_v3"})
        for (const bool other : {false, true}) {
            INFO(type << " " << other);
            Json document = tiny_document(type);
            if (other) {
                document["attention_bias"] = true;
                document["tie_word_embeddings"] = true;
                document["n_shared_experts"] = 0;
                if (document["model_type"] == "glm_moe_dsa") document["indexer_types"] = {"full", "shared"};
                if (document["model_type"] == "deepseek_v3") document["q_lora_rank"] = nullptr;
            }
            const TemporaryFolder place;
            const FinalModel model = random_model(document);
            write_hf_folder(place / "new/model", model, {.shard_bytes = other ? 2000u : 1u << 30});
            const FinalModel read = read_model(place / "new/model");
            check_same(*read.model, *model.model);
            CHECK(read.tokenizer_json == model.tokenizer_json);
            CHECK(names_in(place / "new") == std::vector<std::string>{"model"});  // nothing is left beside it
            if (other) CHECK(names_in(place / "new/model").size() > 5);
        }
}

TEST_CASE("hf folder: 16-bit weights, but for the routers") {
    const TemporaryFolder place;
    const FinalModel model = random_model(tiny_document());
    for (const HfDType dtype : {HfDType::bf16, HfDType::fp16}) {
        write_hf_folder(place / "model", model, {.dtype = dtype});
        const SafetensorsFolder files(place / "model");
        const std::string name = dtype == HfDType::bf16 ? "BF16" : "F16";
        CHECK(files.find("lm_head.weight")->dtype == name);
        CHECK(files.find(layer1 + "mlp.gate.weight")->dtype == "F32");
        CHECK(files.find(layer1 + "mlp.gate.e_score_correction_bias")->dtype == "F32");
        CHECK(read_json(place / "model/config.json")["dtype"] ==
              (dtype == HfDType::bf16 ? "bfloat16" : "float16"));
        const FinalModel read = read_hf_folder(place / "model");
        const NamedTensors want = model.model->state(), got = read.model->state();
        for (size_t i = 0; i < want.size(); ++i)
            CHECK(max_abs_difference(want[i].tensor, got[i].tensor) <
                  (dtype == HfDType::bf16 ? 0.008 : 0.001));
    }
}

TEST_CASE("hf folder: experts of a layer in one tensor each") {
    Folder folder;
    auto& tensors = folder.tensors();
    // gate_up_proj [E,2f,d]: of each expert the gate's rows, then the others.
    std::vector<float> gate_up, down;
    for (const char* e : {"0.", "1."}) {
        for (const char* part : {"gate_proj.weight", "up_proj.weight"})
            for (const float v : tensors.at(experts1 + e + part).to_vector<float>()) gate_up.push_back(v);
        for (const float v : tensors.at(experts1 + e + "down_proj.weight").to_vector<float>())
            down.push_back(v);
        for (const char* part : {"gate_proj.weight", "up_proj.weight", "down_proj.weight"})
            tensors.erase(experts1 + e + part);
    }
    tensors[experts1 + "gate_up_proj"] = Tensor::from(gate_up, {2, 12, 12});
    tensors[experts1 + "down_proj"] = Tensor::from(down, {2, 12, 6});
    folder.write();
    check_same(*read_hf_folder(folder.path()).model, *folder.model().model);
    tensors[experts1 + "down_proj"] = Tensor::zeros({2, 6, 12});
    folder.refused(experts1 + "down_proj is [2,6,12], want [2,12,6]; does config.json belong to it?");
}

namespace {

// E4M3 of all values, and those times the scale of their block, by a loop over rows and columns.
struct Quantised {
    std::string bytes;
    std::vector<float> meant;
    Tensor scales;
};
Quantised quantised(int64_t matrices, int64_t rows, int64_t columns) {
    const int64_t down = (rows + 127) / 128, across = (columns + 127) / 128;
    Quantised q{.scales = random_uniform({matrices, down, across}, 5, 0.001, 0.01, DType::float32)};
    if (matrices == 1) q.scales = q.scales.alias({down, across});
    for (int64_t m = 0; m < matrices; ++m)
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t c = 0; c < columns; ++c) {
                const auto bits = static_cast<char>((7 * m + 3 * r + 11 * c) % 0x7F);
                q.bytes += bits;
                q.meant.push_back(float_from_narrow(q.bytes, q.bytes.size() - 1, NarrowFloat::float8_e4m3) *
                                  q.scales.data<float>()[(m * down + r / 128) * across + c / 128]);
            }
    return q;
}

}  // namespace

TEST_CASE("hf folder: FP8 in blocks with ragged edges, of matrices and of experts in one tensor") {
    Json document = tiny_document();
    document["hidden_size"] = 130;
    document["moe_intermediate_size"] =
        70;  // gate_up_proj: 140 rows, of which an expert's part ends in a block
    document["intermediate_size"] = 257;
    Folder folder(document);
    auto& tensors = folder.tensors();
    for (const char* e : {"0.", "1."})
        for (const char* part : {"gate_proj.weight", "up_proj.weight"}) tensors.erase(experts1 + e + part);
    const Quantised dense = quantised(1, 257, 130), fused = quantised(2, 140, 130);
    folder.set_fp8("model.layers.0.mlp.gate_proj.weight", dense.bytes, {257, 130}, dense.scales);
    folder.set_fp8(experts1 + "gate_up_proj", fused.bytes, {2, 140, 130}, fused.scales);
    folder.write();
    const FinalModel read = read_hf_folder(folder.path());
    std::map<std::string, std::vector<float>> got;
    for (const NamedTensor& t : read.model->state()) got[t.name] = t.tensor.to_vector<float>();
    CHECK(got["blocks.0.feed_forward.linear1.weight"] == dense.meant);
    std::vector<float> in_order;
    for (const char* part : {"0.linear1", "0.linear3", "1.linear1", "1.linear3"})
        for (const float v : got[std::string("blocks.1.feed_forward.experts.") + part + ".weight"])
            in_order.push_back(v);
    CHECK(in_order == fused.meant);

    folder.set_fp8("model.layers.0.mlp.gate_proj.weight", dense.bytes, {257, 130}, Tensor::zeros({2, 2}));
    folder.refused(
        "model.layers.0.mlp.gate_proj.weight_scale_inv is [2,2], want [3,2]; does config.json belong to it?");
    tensors.erase("model.layers.0.mlp.gate_proj.weight_scale_inv");
    folder.refused(
        "model.layers.0.mlp.gate_proj.weight is FP8, but there is no "
        "model.layers.0.mlp.gate_proj.weight_scale_inv, "
        "by which its blocks of 128 x 128 are multiplied");
}

TEST_CASE("hf folder: missing and unexpected tensors are listed, and nothing is random") {
    {
        Folder folder;
        folder.tensors().erase("model.norm.weight");
        folder.refused("1 tensor is missing that config.json asks for: model.norm.weight");
    }
    {
        Folder folder;
        for (const char* part : {"0.gate_proj", "0.up_proj", "1.gate_proj", "1.up_proj"})
            folder.tensors().erase(experts1 + part + ".weight");
        folder.refused("4 tensors are missing that config.json asks for: " + experts1 +
                       "0.gate_proj.weight, " + experts1 + "0.up_proj.weight, " + experts1 +
                       "1.gate_proj.weight, ... (all begin with " + experts1 + ")");
        folder.tensors()[layer1 + "mlp.extra.weight"] = Tensor::zeros({1});
        folder.refused("4 tensors are missing that config.json asks for: " + experts1 +
                       "0.gate_proj.weight, " + experts1 + "0.up_proj.weight, " + experts1 +
                       "1.gate_proj.weight, ... (all begin with " + experts1 +
                       "); and there is 1 tensor of no such model: " + layer1 + "mlp.extra.weight");
    }
    {
        Folder folder;
        folder.tensors()["a.b"] = folder.tensors()["a.c"] = Tensor::zeros({1});
        folder.refused("holds 2 tensors of no such model: a.b, a.c (all begin with a.)");
    }
    {
        Folder folder;
        folder.tensors()["model.norm.weight"] = Tensor::zeros({13});
        folder.refused("model.norm.weight is [13], want [12]; does config.json belong to it?");
        folder.tensors()["model.norm.weight"] = Tensor::full({12}, NAN);
        folder.refused("model.norm.weight[0] is nan; a model with such a weight cannot be used");
    }
    {
        Folder folder;
        folder.tensors().erase(layer1 + "self_attn.indexer.wk.weight");  // one of an indexer that is there
        folder.refused("1 tensor is missing that config.json asks for: " + layer1 +
                       "self_attn.indexer.wk.weight");
    }
    {
        Folder folder;
        folder.set_config("hidden_size", 1 << 20);
        try {
            read_hf_folder(folder.path());
            FAIL("was read");
        } catch (const Error& e) {
            CHECK(e.kind() == ErrorKind::bad_file);
            CHECK(std::string(e.what()).find("its config.json describes a model of ") != std::string::npos);
        }
    }
}

TEST_CASE("hf folder: what is left out is said once") {
    Folder folder;
    folder.tensors()["model.layers.2.eh_proj.weight"] = folder.tensors()["model.layers.2.enorm.weight"] =
        Tensor::zeros({1});
    folder.write();
    CHECK(said_of(folder.path())
              .find("note: " + folder.path() +
                    ": 2 tensors of layer 2 behind the last are left out (multi-token "
                    "prediction)\n") != std::string::npos);
    folder.tensors()[layer1 + "self_attn.rotary_emb.inv_freq"] = Tensor::zeros({2});
    folder.write();
    CHECK(said_of(folder.path()).find("inv_freq") == std::string::npos);
    check_same(*read_hf_folder(folder.path()).model, *folder.model().model);
    folder.set_config("sliding_window", 7);
    CHECK(said_of(folder.path()).find("config.json: not known, and left aside: sliding_window\n") !=
          std::string::npos);
}

TEST_CASE("hf folder: a tied head in the file is the embedding, or refused") {
    Json document = tiny_document();
    document["tie_word_embeddings"] = true;
    Folder folder(document);
    CHECK(!folder.tensors().contains("lm_head.weight"));
    folder.tensors()["lm_head.weight"] = folder.tensors()["model.embed_tokens.weight"].clone();
    folder.write();
    check_same(*read_hf_folder(folder.path()).model, *folder.model().model);
    folder.tensors()["lm_head.weight"].data<float>()[14] = 5;
    folder.write();
    CHECK_THROWS_WITH_AS(
        read_hf_folder(folder.path()),
        doctest::Contains("model.embed_tokens.weight and lm_head.weight are one tensor in this "
                          "model (tied weights) but differ, first in model.embed_tokens.weight[1,2]"),
        Error);
}

TEST_CASE("hf folder: reading takes the model and one tensor") {
    Json document = tiny_document();
    document["hidden_size"] = 256;
    document["moe_intermediate_size"] = 300;
    document["n_routed_experts"] = 8;
    Folder folder(document);
    int64_t model_bytes = 0, largest = 0;
    for (const NamedTensor& t : folder.model().model->state()) {
        model_bytes += t.tensor.bytes();
        largest = std::max(largest, t.tensor.bytes());
    }
    CHECK(model_bytes > 8'000'000);
    const int64_t before = memory_stats(Device{}).live_bytes;
    reset_peak_memory(Device{});
    const FinalModel read = read_hf_folder(folder.path());
    CHECK(memory_stats(Device{}).peak_bytes - before <= model_bytes + largest + 100'000);
}

TEST_CASE("hf folder: a classic model takes the weights without the indexers, a sparse one begins new ones") {
    Folder folder;
    ModelConfig classic = folder.model().config.model;
    classic.attention = AttentionKind::classic;
    const Transformer without(classic, ParameterInit{.seed = 7});
    load_hf_weights(folder.path(), without);
    for (const NamedTensor& t : without.state())
        for (const NamedTensor& want : folder.model().model->state())
            if (t.name == want.name) CHECK(bit_identical(t.tensor, want.tensor));

    Folder dense(tiny_document("deepseek_v3"));
    ModelConfig config = dense.model().config.model;
    config.attention = AttentionKind::sparse;
    config.indexer_heads = 2, config.indexer_dim = 8;
    const Transformer sparse(config, ParameterInit{.seed = 7}), same(config, ParameterInit{.seed = 7});
    load_hf_weights(dense.path(), sparse);
    const NamedTensors initial = same.indexer_parameters(), kept = sparse.indexer_parameters();
    REQUIRE(kept.size() == 10);
    for (size_t i = 0; i < kept.size(); ++i) CHECK(bit_identical(kept[i].tensor, initial[i].tensor));
    const NamedTensors main = sparse.main_parameters(), want = dense.model().model->main_parameters();
    REQUIRE(main.size() == want.size());
    for (size_t i = 0; i < main.size(); ++i) CHECK(bit_identical(main[i].tensor, want[i].tensor));
}

DEVICE_TEST_CASE("hf folder: weights on a device, and in float64", device) {
    Folder folder;
    const ModelConfig& config = folder.model().config.model;
    const Transformer there(config, ParameterInit{.std = 0, .device = device});
    load_hf_weights(folder.path(), there);
    const Transformer wide(config, ParameterInit{.std = 0, .dtype = DType::float64});
    load_hf_weights(folder.path(), wide);
    const NamedTensors want = folder.model().model->state(), got = there.state(), wider = wide.state();
    for (size_t i = 0; i < want.size(); ++i) {
        CHECK(bit_identical(got[i].tensor.to(Device{}), want[i].tensor));
        CHECK(max_abs_difference(wider[i].tensor, want[i].tensor.to(DType::float64)) == 0);
    }
}

TEST_CASE("hf folder: an existing folder is replaced whole, or not at all") {
    const TemporaryFolder place;
    const std::string path = place / "model";
    const FinalModel first = random_model(tiny_document()),
                     second = random_model(tiny_document("glm_moe_dsa"));
    write_hf_folder(path, first, {.shard_bytes = 4000});
    for (int64_t step = 1; step < 400; ++step) {  // one failure after the other, and what there is stays
        fail_file_step_after(step);
        try {
            write_hf_folder(path, second, {.shard_bytes = 8000});
            fail_file_step_after(0);
            CHECK(step > 20);  // many steps failed before
            break;
        } catch (const Error& e) {
            fail_file_step_after(0);
            CHECK(e.kind() == ErrorKind::bad_file);
            check_same(*read_hf_folder(path).model, *first.model);
            CHECK(names_in(place.path()) == std::vector<std::string>{"model"});
        }
    }
    CHECK(read_hf_folder(path).config.model.indexer_rope_layout == RopeLayout::interleaved);
    write_hf_folder(path, second, {});
    CHECK(names_in(path) == std::vector<std::string>{"config.json", "model.safetensors", "tokenizer.json",
                                                     "tokenizer_config.json"});
    write_file_atomic(path + "/notes.txt", "mine");
    check_error(
        path +
            ": holds notes.txt, which is no part of a Hugging Face folder as it is written here and would be "
            "lost; choose another folder, or move that",
        [&] { write_hf_folder(path, first, {}); });
    check_error(path + "/notes.txt: is a file; a Hugging Face folder needs another name",
                [&] { write_hf_folder(path + "/notes.txt", first, {}); });
}
