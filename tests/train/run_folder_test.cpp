#include "framework/train/run_folder.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/train/checkpoint.h"
#include "framework/train/resume.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

ExperimentConfig tiny(AttentionKind attention) {
    ExperimentConfig c;
    c.model.attention = attention;
    c.model.vocab_size = 50, c.model.d_model = 8, c.model.n_heads = 2, c.model.n_layers = 1, c.model.d_ff = 8;
    c.model.max_seq_len = 8, c.model.num_experts = 2, c.model.expert_top_k = 1;
    c.model.indexer_heads = 2, c.model.indexer_dim = 4, c.model.sparse_top_k = 4;
    c.classic_steps = c.sparse_steps = 20, c.warmup_steps = 10;
    return c;
}

Manifest manifest_named(const std::string& run, const ExperimentConfig& config) {
    return {.run = run,
            .config = config,
            .data = "some text",
            .fingerprint = {.corpus = "c0", .tokenizer = "70"},
            .sessions = {
                {.started = "2026-11-29T10:00:00Z", .version = "1", .commit = "c", .command = {"exp4"}}}};
}

void write_unfinished_checkpoint(const std::string& folder, const ExperimentConfig& config, StageKind stage,
                                 int64_t step) {
    const Transformer model(config.model, ParameterInit{});
    Checkpoint checkpoint{.stage = stage, .step = step, .model = model.state()};
    const MetricKey loss = stage == StageKind::warmup ? MetricKey("warmup_loss") : MetricKey("step_loss");
    checkpoint.history[loss].assign(static_cast<size_t>(step), 1);
    save_checkpoint(folder, checkpoint, config);
}

// All files of a complete run, in the unfinished folder.
void write_complete(const std::string& folder, const Manifest& manifest) {
    begin_run(folder, manifest);
    const std::string work = unfinished_folder(folder);
    const Transformer model(manifest.config.model, ParameterInit{});
    write_unfinished_checkpoint(work, manifest.config,
                                manifest.config.model.is_sparse() ? StageKind::sparse : StageKind::classic,
                                20);
    write_json_atomic(work + "/training_results.json", {{"run", manifest.run}});
    write_json_atomic(work + "/config.json", config_to_json(manifest.config));
    write_file_atomic(work + "/events.out.tfevents." + manifest.run, "events");
    write_final_model(work + "/final_model.pt", model, manifest.config, "{}",
                      manifest_to_json(manifest).dump());
}

std::string refusal(const std::string& folder, const ExperimentConfig& config, const DataFingerprint& data) {
    try {
        plan_resume(folder, config, data);
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

const DataFingerprint same_data{.corpus = "c0", .tokenizer = "70"};

}  // namespace

TEST_CASE("manifest: what is written is read") {
    const TemporaryFolder folder;
    const Manifest manifest = manifest_named("run", tiny(AttentionKind::sparse));
    write_manifest(folder.path().string(), manifest);
    const Manifest back = read_manifest(folder.path().string());
    CHECK(manifest_to_json(back) == manifest_to_json(manifest));
    write_file_atomic(folder / "manifest.json", "{\"run\": 3}");
    check_error((folder / "manifest.json") + ": not a manifest.json of this version",
                [&] { read_manifest(folder.path().string()); });
}

TEST_CASE("manifest: differences are of keys that concern the variant") {
    ExperimentConfig a = tiny(AttentionKind::classic), b = a;
    b.model.sparse_top_k = 2, b.sparse_steps = 7, b.threads = 5, b.results_dir = "elsewhere";
    CHECK(config_differences(a, b, AttentionKind::classic).empty());
    CHECK(config_differences(a, b, AttentionKind::sparse) ==
          std::vector<Difference>{{"sparse_top_k", "4", "2"}, {"sparse_steps", "20", "7"}});
    CHECK(config_differences(a, b).empty());
    b.seed = 7, b.learning_rate = 0.5;
    CHECK(describe(config_differences(a, b)) == "learning_rate 0.003 and 0.5, seed 42 and 7");
    b.classic_steps = 3;
    CHECK(config_differences(a, b, AttentionKind::sparse).size() == 4);
    b.sparse_init = SparseInit::classic;  // now the sparse model depends on the classic one's training
    CHECK(config_differences(a, b, AttentionKind::sparse).size() == 6);
}

TEST_CASE("run folder: a complete run takes the place of an earlier one as a whole, whenever it is killed") {
    const Manifest first = manifest_named("first", tiny(AttentionKind::classic)),
                   second = manifest_named("second", tiny(AttentionKind::classic));
    const auto finish = [](const std::string& folder) { finish_run(folder); };
    bool complete = false;
    for (int64_t n = 1; !complete; ++n) {
        INFO("file step " << n << " fails");
        const TemporaryFolder place;
        const std::string folder = place.path().string();
        write_complete(folder, first);
        finish(folder);
        REQUIRE(finished_run(folder)->run == "first");
        write_complete(folder, second);
        CHECK(finished_run(folder)->run == "first");
        fail_file_step_after(n);
        try {
            finish(folder);
            complete = true;
        } catch (const Error& e) {
            CHECK(e.kind() == ErrorKind::bad_file);
        }
        fail_file_step_after(0);
        // A reader sees one run or is told; it never takes the files of two.
        try {
            const std::string seen = finished_run(folder)->run;
            CHECK((seen == "first" || seen == "second"));
            check_final_model(folder + "/final_model.pt", *finished_run(folder));
        } catch (const Error& e) {
            CHECK(std::string(e.what()).find("of two runs") != std::string::npos);
        }
        const bool marked = fs::exists(unfinished_folder(folder) + "/complete.json");
        prepare_run_folder(folder);
        CHECK(finished_run(folder)->run == (complete || marked ? "second" : "first"));
        check_final_model(folder + "/final_model.pt", *finished_run(folder));
        if (!complete && !marked) continue;
        CHECK(!fs::exists(unfinished_folder(folder)));
        CHECK(!fs::exists(folder + "/events.out.tfevents.first"));
        CHECK(fs::exists(folder + "/events.out.tfevents.second"));
    }
}

TEST_CASE("run folder: what killed programs left is removed") {
    const TemporaryFolder place;
    const std::string folder = place.path().string();
    write_complete(folder, manifest_named("run", tiny(AttentionKind::classic)));
    finish_run(folder);
    for (const char* name : {"/checkpoint.pt.tmp4711-0", "/x.tmp", "/notes.tmp12-a", "/.tmp1-2"})
        write_file_atomic(folder + name, "x");
    prepare_run_folder(folder);
    CHECK(!fs::exists(folder + "/checkpoint.pt.tmp4711-0"));
    for (const char* name : {"/x.tmp", "/notes.tmp12-a", "/.tmp1-2"}) CHECK(fs::exists(folder + name));
}

TEST_CASE("run folder: an interrupted run that is begun anew is kept until the new one is complete") {
    const TemporaryFolder place;
    const std::string folder = place.path().string();
    const ExperimentConfig config = tiny(AttentionKind::classic);
    begin_run(folder, manifest_named("first", config));
    write_unfinished_checkpoint(unfinished_folder(folder), config, StageKind::classic, 5);
    REQUIRE(unfinished_run(folder)->run == "first");
    write_complete(folder, manifest_named("second", config));
    CHECK(read_manifest(folder + "/replaced").run == "first");
    finish_run(folder);
    CHECK(!fs::exists(folder + "/replaced"));
}

TEST_CASE("resume: a complete run is kept by every command that asks for the same") {
    const TemporaryFolder place;
    const std::string folder = place.path().string();
    ExperimentConfig config = tiny(AttentionKind::classic);
    CHECK(plan_resume(folder, config, same_data).kind == Continuation::Kind::from_start);
    write_complete(folder, manifest_named("run", config));
    finish_run(folder);
    CHECK(plan_resume(folder, config, same_data).kind == Continuation::Kind::keep);
    config.model.sparse_top_k = 2, config.sparse_steps = 3, config.threads = 7;  // not the classic model's
    CHECK(plan_resume(folder, config, same_data).kind == Continuation::Kind::keep);
}

TEST_CASE("resume: a key that concerns the run is refused with old and new value") {
    const TemporaryFolder place;
    const std::string folder = place.path().string();
    const ExperimentConfig config = tiny(AttentionKind::sparse);
    write_complete(folder, manifest_named("run", config));
    finish_run(folder);
    ExperimentConfig other = config;
    other.learning_rate = 0.01, other.model.sparse_top_k = 2;
    CHECK(refusal(folder, other, same_data) == folder +
                                                   ": --resume: this run was completed with sparse_top_k 4 "
                                                   "(now 2), learning_rate 0.003 (now 0.01); give "
                                                   "the old values to go on with it, another --results_dir "
                                                   "to keep both, or leave out --resume to train "
                                                   "anew");
    CHECK(refusal(folder, config, {.corpus = "c1", .tokenizer = "70"}).find("the text (XXH3) c0 (now c1)") !=
          std::string::npos);
    CHECK(refusal(folder, config, {.corpus = "c0", .tokenizer = "71"})
              .find("the tokenizer (XXH3) 70 (now 71)") != std::string::npos);
}

TEST_CASE("resume: steps may grow where they are not done, and nowhere else") {
    const TemporaryFolder place;
    const std::string folder = place.path().string();
    const ExperimentConfig config = tiny(AttentionKind::sparse);
    write_complete(folder, manifest_named("run", config));
    finish_run(folder);
    const auto with = [&](int64_t warmup, int64_t sparse) {
        ExperimentConfig c = config;
        c.warmup_steps = warmup, c.sparse_steps = sparse;
        return c;
    };
    const Continuation more = plan_resume(folder, with(10, 25), same_data);
    CHECK(more.kind == Continuation::Kind::go_on);
    CHECK(more.from == folder);
    CHECK(refusal(folder, with(10, 19), same_data).find("sparse_steps 20 (now 19)") != std::string::npos);
    CHECK(refusal(folder, with(12, 20), same_data).find("warmup_steps 10 (now 12)") != std::string::npos);
    CHECK(refusal(folder, with(0, 25), same_data).find("warmup_steps 10 (now 0)") != std::string::npos);

    begin_run(folder, manifest_named("second", config));
    write_unfinished_checkpoint(unfinished_folder(folder), config, StageKind::warmup, 5);
    CHECK(plan_resume(folder, config, same_data).kind ==
          Continuation::Kind::keep);  // the complete run is asked for
    for (const auto& [warmup, sparse] : {std::pair<int64_t, int64_t>{12, 20}, {5, 20}, {10, 3}}) {
        const Continuation on = plan_resume(folder, with(warmup, sparse), same_data);
        CHECK(on.kind == Continuation::Kind::go_on);
        CHECK(on.from == unfinished_folder(folder));
    }
    CHECK(refusal(folder, with(4, 20), same_data).find("stopped at step 5 with warmup_steps 10 (now 4)") !=
          std::string::npos);
}

TEST_CASE("resume: a model that is not its folder's is no complete run") {
    const TemporaryFolder place;
    const std::string folder = place.path().string();
    const ExperimentConfig config = tiny(AttentionKind::classic);
    write_complete(folder, manifest_named("run", config));
    finish_run(folder);
    const Transformer model(config.model, ParameterInit{});
    write_final_model(folder + "/final_model.pt", model, config, "{}",
                      manifest_to_json(manifest_named("other", config)).dump());
    CHECK(refusal(folder, config, same_data).find("is of another run (other)") != std::string::npos);
    fs::remove(folder + "/manifest.json");
    CHECK(refusal(folder, config, same_data).find("has no manifest.json") != std::string::npos);
}
