// Sequences of commands over one results folder: nothing finished is lost, nothing of two experiments is
// mixed.
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "framework/io/atomic_file.h"
#include "framework/io/folder_lock.h"
#include "framework/io/json_file.h"
#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

const std::string root = testing::source_dir();

// One folder of results that several commands work on.
class Sequence {
  public:
    Sequence() {
        write_file_atomic(text(), read_file(root + "/data/excerpt/persuasion.txt").substr(0, 40000));
    }

    std::string results() const { return folder_ / "results"; }
    std::string operator/(const std::string& name) const { return results() + "/" + name; }
    std::string text() const { return folder_ / "text.txt"; }
    std::string command(const std::string& more) const {
        return "OMP_WAIT_POLICY=passive " + root +
               "/experiments/exp4 --preset small --d_model 16 --n_heads 2 --n_layers 1 --d_ff 16 "
               "--max_seq_len 16 "
               "--batch_size 2 --indexer_heads 2 --indexer_dim 8 --sparse_top_k 8 --vocab_size 300 "
               "--classic_steps 20 "
               "--warmup_steps 5 --sparse_steps 20 --eval_every 10 --eval_batches 1 --checkpoint_every 4 "
               "--device cpu "
               "--threads 1 --data " +
               text() + " --cache_dir " + (folder_ / "cache") + " --results_dir " + results() + " " + more;
    }
    // Runs exp4 and checks its exit code, and that it said `part`.
    void run(const std::string& more, int status, const std::string& part) const {
        std::string output;
        INFO(more);
        const int got = run_command(command(more), output);
        INFO(output);
        CHECK(got == status);
        CHECK(output.find(part) != std::string::npos);
    }
    // Name and content of every file of one variant.
    std::map<std::string, std::string> files(const std::string& variant) const {
        std::map<std::string, std::string> found;
        for (const auto& entry : fs::recursive_directory_iterator(*this / variant))
            if (entry.is_regular_file())
                found[entry.path().lexically_relative(*this / variant).string()] = read_file(entry.path());
        return found;
    }

  private:
    TemporaryFolder folder_;
};

}  // namespace

TEST_CASE(
    "results: --resume over complete runs goes on with more steps, and refuses what would replace them") {
    const Sequence s;
    s.run("", 0, "criteria");
    const auto classic = s.files("classic"), sparse = s.files("sparse");
    s.run("--learning_rate 0.01 --resume", 2, "learning_rate 0.003 (now 0.01)");
    s.run("--classic_steps 10 --resume", 2, "classic_steps 20 (now 10)");
    // The classic model is kept, the sparse one would be another.
    s.run("--sparse_top_k 4 --resume", 2, "sparse_top_k 8 (now 4)");
    s.run("--sparse_top_k 4 --stages classic --resume", 0,
          "classic was finished by an earlier run and is kept");
    s.run("--resume --threads 2", 0, "sparse was finished by an earlier run and is kept");
    CHECK(s.files("classic") == classic);
    CHECK(s.files("sparse") == sparse);

    s.run("--sparse_steps 30 --resume", 0, "resuming sparse at step 20 of 30");
    CHECK(s.files("classic") == classic);
    const auto log = s.files("sparse").at("metrics.csv");
    CHECK(std::count(log.begin(), log.end(), '\n') == 1 + 5 + 30);
    const auto manifest = read_json(s / "sparse/manifest.json");
    CHECK(manifest.at("sessions").size() == 2);
    CHECK(manifest.at("config").at("sparse_steps") == 30);
    CHECK(read_json(s / "sparse/training_results.json").at("run") == manifest.at("run"));
    s.run("--sparse_steps 30 --resume", 0, "sparse was finished by an earlier run and is kept");
}

TEST_CASE("results: a new run replaces a complete one only when it is complete") {
    const Sequence s;
    s.run("--stages classic", 0, "classic 20/20");
    const auto before = s.files("classic");
    std::string output;
    const int status = run_command(
        "timeout -s INT 3 " + s.command("--stages classic --classic_steps 100000").substr(24), output);
    INFO(output);
    CHECK((status == 130 || status == 124));
    auto after = s.files("classic");
    // timeout may signal twice, upon which the program ends at once and leaves its lock's file, which locks nothing.
    std::erase_if(after, [](const auto& file) {
        return file.first.starts_with("unfinished/") || file.first == ".lock";
    });
    CHECK(after == before);
    CHECK(fs::exists(s / "classic/unfinished/checkpoint.pt"));
    s.run("--stages classic --resume", 0, "classic was finished by an earlier run and is kept");
    // Begun anew, the interrupted run stays until there is something complete.
    s.run("--stages classic --seed 7", 0, "it is moved to");
    CHECK(!fs::exists(s / "classic/unfinished"));
    CHECK(!fs::exists(s / "classic/replaced"));
    CHECK(read_json(s / "classic/manifest.json").at("config").at("seed") == 7);
}

TEST_CASE("results: models of different experiments are not put into one table") {
    const Sequence s;
    s.run("--stages classic", 0, "classic 20/20");
    s.run("--stages sparse,compare --seed 7", 2, "seed 42 and 7");  // before it is trained
    CHECK(!fs::exists(s / "sparse/manifest.json"));
    s.run("--stages sparse --seed 7 --sparse_steps 10", 0, "sparse 10/10");
    s.run("--stages compare", 2, "are of different experiments: seed 42 and 7; train one of them again");
    CHECK(!fs::exists(s / "comparison/comparison_metrics.json"));
    s.run("--stages compare --allow_different", 0, "the models are of different experiments");
    const auto metrics = read_json(s / "comparison/comparison_metrics.json");
    CHECK(metrics.at("different_keys").dump() == R"([{"key":"seed","classic":"42","sparse":"7"}])");
    CHECK(metrics.at("success_criteria").empty());
    CHECK(metrics.at("config").at("sparse_steps") == 10);  // the models' own keys, not the command's
    CHECK(metrics.at("config").at("classic_steps") == 20);
    CHECK(read_file(s / "comparison/report.html").find("are of different experiments: seed 42 and 7") !=
          std::string::npos);
}

TEST_CASE("results: a text that changed under its name is noticed") {
    const Sequence s;
    s.run("--stages classic", 0, "classic 20/20");
    write_file_atomic(s.text(), read_file(s.text()) + "One sentence more.");
    s.run("--stages classic --resume", 2, "the text (XXH3)");
    s.run("--stages sparse,compare", 2, "the text (XXH3)");
    s.run("--stages sparse --sparse_init classic", 3, "was trained on other data");
    s.run("--stages sparse", 0, "sparse 20/20");
    s.run("--stages compare", 2, "the text (XXH3)");
    std::string output;
    CHECK(run_command(root + "/tools/visualize " + (s / "classic"), output) == 3);
    CHECK(output.find("the text has changed since") != std::string::npos);
}

TEST_CASE("results: the comparison of what is there needs no keys") {
    const Sequence s;
    s.run("--stages classic,sparse", 0, "sparse 20/20");
    std::string output;
    REQUIRE_MESSAGE(run_command(root + "/experiments/exp4 --stages compare --device cpu --results_dir " +
                                    s.results() + " --cache_dir ''",
                                output) == 0,
                    output);
    CHECK(output.find("small preset, seed 42") != std::string::npos);
    CHECK(read_json(s / "comparison/comparison_metrics.json").at("config").at("d_model") == 16);
}

TEST_CASE("results: a second program in one folder stops with a sentence") {
    const Sequence s;
    make_folder(s / "classic");
    {
        const FolderLock lock(s / "classic");
        s.run("--stages classic", 1, s / "classic: in use by process ");
        s.run("--stages sparse", 0, "sparse 20/20");  // it writes elsewhere
    }
    s.run("--stages classic", 0, "classic 20/20");
}

TEST_CASE("results: pictures of another text or window leave the experiment's alone") {
    const Sequence s;
    s.run("", 0, "criteria");
    const auto before = s.files("comparison");
    std::string output;
    const std::string visualize = root + "/tools/visualize " + (s / "sparse");
    REQUIRE_MESSAGE(run_command(visualize + " --text 'It is a truth'", output) == 0, output);
    REQUIRE_MESSAGE(run_command(visualize + " --sample 1", output) == 0, output);
    for (const auto& [name, content] : before)
        CHECK_MESSAGE(read_file(s / ("comparison/" + name)) == content, name);
    CHECK(fs::exists(s / "comparison/text/attention_pattern_layer0.png"));
    CHECK(fs::exists(s / "comparison/sample1/attention_pattern_layer0.png"));
}

// F35: a kill or a full disk in the midst of a run's end.
TEST_CASE("results: a run that could not write its end is no finished one") {
    const Sequence s;
    s.run("--stages classic", 0, "classic 20/20");
    const auto before = s.files("classic");
    // A folder in the way of the new model's name.
    std::string output;
    make_folder(s / "classic/unfinished/final_model.pt");
    s.run("--stages classic --seed 8", 0,
          "classic 20/20");  // what lies there without a checkpoint is no run: removed
    CHECK(read_json(s / "classic/manifest.json").at("config").at("seed") == 8);
    CHECK(s.files("classic").size() == before.size());
}
