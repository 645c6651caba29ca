// report.html: what it shows, what it says when files are missing or damaged, and how a browser takes it.
#include "framework/report/report.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/plot/figure.h"
#include "framework/report/results.h"
#include "tests/support/python.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

TrainingHistory history(double loss, bool sparse) {
    TrainingHistory h;
    h.steps = {10, 20, 30};
    h["step_loss"] = std::vector<double>(30, loss);
    h["train_loss"] = {loss + 2, loss + 1, loss};
    h["val_loss"] = {loss + 2.5, loss + 1.5, loss + 0.5};
    h["val_accuracy"] = {0.1, 0.2, 0.25};
    h["val_perplexity"] = {90, 30, 12};
    h["time_per_step"] = {0.2, 0.1, 0.1};
    h["learning_rate"] = h["grad_norm"] = {0.003, 0.002, 0.001};
    h.training_seconds = 4;
    h.peak_memory_bytes = 100 << 20;
    h["val_loss_below_k"] = {loss + 3, loss + 2, loss + 1};
    h["val_loss_from_k"] = {loss + 2, loss + 1, loss + 0.25};
    if (sparse)
        h["indexer_kl"] = {0.3, 0.2, 0.1}, h["indexer_recall"] = h["indexer_covered_mass"] = {0.5, 0.6, 0.7};
    return h;
}

void write_picture(const std::string& path) {
    plot::Figure figure(1, 1, {60, 40});
    figure.save(path);
}

Json statistics() {
    const Json spread = {{"count", 4}, {"mean", 0.5}, {"std", 0.1}};
    Json layer = {{"layer", 0}};
    for (const char* measure : {"sparsity", "recall", "recall_of_choices", "covered_mass",
                                "covered_mass_of_choices", "coverage", "distance"})
        layer[measure] = spread;
    layer["coverage"] = {{"count", 0}};
    return {{"windows", 4}, {"top_k", 8}, {"random_keys", 0.4}, {"layers", {layer}}};
}

Json metrics() {
    const auto criterion = [](const char* what, double measured, bool met) {
        return Json{{"criterion", what}, {"wanted", "at least 1"}, {"measured", measured}, {"met", met}};
    };
    return {
        {"performance", {{"classic", {{"val_loss", 2.5}}}, {"sparse", {{"val_loss", 2.75}}}}},
        {"success_criteria", {criterion("<b>bold</b> & brash", 1.5, true), criterion("speed", 0.9, false)}}};
}

const std::vector<std::string> pictures = {"comparison/performance_comparison.png",
                                           "classic/training_curves.png",
                                           "sparse/training_curves.png",
                                           "comparison/attention_pattern_layer0.png",
                                           "comparison/indexer_heads_layer0.png",
                                           "comparison/attention_pattern_layer3.png",
                                           "comparison/dense_attention_layer0.png",
                                           "comparison/attention_statistics.png",
                                           "ablation/some <other>.png"};

// A whole results folder with small pictures and unfriendly texts.
ExperimentConfig hostile_config(const std::string& attention) {
    ExperimentConfig c;
    apply_preset(c, "small");
    c.model.attention = from_name<AttentionKind>("attention", attention);
    c.classic_steps = 30;
    c.data = "</pre><script>alert('data')</script>\"><img src=x onerror=alert(1)>.txt";
    return c;
}

Manifest manifest_of_run(const ExperimentConfig& config, const MachineUsed& machine) {
    return {.run = "2026-11-29T10:00:00Z-0badf00d",
            .config = config,
            .data = config.data,
            .fingerprint = {.corpus = "0123", .tokenizer = "4567"},
            .sessions = {{.started = "2026-11-29T10:00:00Z",
                          .version = "0.2.0",
                          .commit = "abc",
                          .command = {"./experiments/exp4", "<b>bold</b>"},
                          .machine = machine}}};
}

void make_results(const std::string& root) {
    for (const char* folder : {"/classic", "/sparse", "/comparison", "/ablation"}) make_folder(root + folder);
    for (const char* attention : {"classic", "sparse"}) {
        const bool sparse = std::string(attention) == "sparse";
        const ExperimentConfig config = hostile_config(attention);
        write_json_atomic(root + "/" + attention + "/config.json", config_to_json(config));
        const Manifest manifest = manifest_of_run(config, {.device = "cpu", .threads = 2});
        write_manifest(root + "/" + attention, manifest);
        write_json_atomic(root + "/" + attention + "/training_results.json",
                          training_results(history(sparse ? 2.25 : 2, sparse), manifest));
    }
    write_json_atomic(root + "/comparison/comparison_metrics.json", metrics());
    write_json_atomic(root + "/comparison/attention_statistics.json", statistics());
    for (const std::string& picture : pictures) write_picture(root + "/" + picture);
}

bool holds(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

size_t count_of(const std::string& text, const std::string& part) {
    size_t count = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
    return count;
}

struct Results {
    Results() : root(folder / "my results") { make_results(root); }
    TemporaryFolder folder;
    std::string root;
    std::string operator/(const std::string& name) const { return root + "/" + name; }
};

void check_refused(const std::string& root, const std::string& part) {
    try {
        report_html(root);
        FAIL("nothing was thrown");
    } catch (const Error& e) {
        INFO(e.what());
        CHECK(e.kind() == ErrorKind::bad_file);
        CHECK(holds(e.what(), part));
    }
}

}  // namespace

TEST_CASE("report: a whole folder becomes one page with all pictures, tables and commands") {
    const Results results;
    const std::string html = report_html(results.root);
    CHECK(count_of(html, "<img src=\"data:image/png;base64,") == pictures.size());
    CHECK(!holds(html, "not complete"));
    for (const char* part :
         {"2.5000 → 2.7500", "+10.00 %", "1.500", "not met", "0.500 ± 0.100", "n_layers", "--preset small",
          "--classic_steps 30", "random would reach 0.400", "… of positions from k on", "+11.11 %"})
        CHECK_MESSAGE(holds(html, part), part);
    CHECK(holds(html, "--results_dir &#39;" + results.root + "&#39;"));
    CHECK(count_of(html, "<table>") == count_of(html, "</table>"));
    CHECK(!holds(html, "http://"));
    CHECK(!holds(html, "https://"));
}

// The file of an earlier version has no such numbers; a layer without a choice has none, either.
TEST_CASE("report: recall and mass stand between chance and oracle, as far as the file has them") {
    const Results results;
    const std::string old = report_html(results.root);
    CHECK(!holds(old, "recall above chance"));
    CHECK(!holds(old, "oracle's mass</th>"));
    Json json = statistics();
    json["layers"].push_back(json["layers"][0]);
    Json &first = json["layers"][0], &second = json["layers"][1];
    second["layer"] = 1;
    first["chance"] = 0.845, first["chance_of_choices"] = 0.691;
    second["chance"] = 1, second["chance_of_choices"] = nullptr;
    for (Json* layer : {&first, &second})
        for (const char* measure :
             {"oracle_mass", "recall_above_chance", "mass_above_chance", "entropy", "ties"})
            (*layer)[measure] = {{"count", 0}};
    first["recall_above_chance"] = {{"count", 4}, {"mean", 0.123}, {"std", 0.045}};
    write_json_atomic(results / "comparison/attention_statistics.json", json);
    const std::string html = report_html(results.root);
    for (const char* part : {"recall above chance", "0.123 ± 0.045", "0.845", "0.691", "mass above chance"})
        CHECK_MESSAGE(holds(html, part), part);
    // Not measured in the first layer alone: the file is damaged, and says where.
    first.erase("ties");
    write_json_atomic(results / "comparison/attention_statistics.json", json);
    check_refused(results.root, "has no /layers/0/ties/count");
    // What every version has is never left out in silence.
    Json lacking = statistics();
    lacking["layers"][0].erase("recall");
    write_json_atomic(results / "comparison/attention_statistics.json", lacking);
    check_refused(results.root, "has no /layers/0/recall/count");
}

TEST_CASE("report: says what trained the models") {
    const Results results;
    const auto trained_on = [&](const std::string& attention, const MachineUsed& machine) {
        write_json_atomic(
            results / (attention + "/training_results.json"),
            training_results(history(2, false), manifest_of_run(hostile_config(attention), machine)));
    };
    CHECK(holds(report_html(results.root), "Trained on: cpu, precision fp32, threads 2</p>"));
    const MachineUsed gpu{.device = "NVIDIA <H100>", .precision = Precision::bf16, .threads = 16};
    trained_on("sparse", gpu);
    CHECK(holds(report_html(results.root),
                "Trained on: cpu, precision fp32, threads 2 (classic); NVIDIA &lt;H100&gt;, precision bf16, "
                "threads 16 (sparse)</p>"));
    trained_on("classic", gpu);
    CHECK(
        holds(report_html(results.root), "Trained on: NVIDIA &lt;H100&gt;, precision bf16, threads 16</p>"));
    const Json written = read_json(results / "classic/training_results.json");
    CHECK(written.at("device") == "NVIDIA <H100>");
    CHECK(written.at("precision") == "bf16");
    CHECK(written.at("threads") == 16);
}

TEST_CASE("report: texts of the results cannot become markup") {
    const Results results;
    const std::string html = report_html(results.root);
    CHECK(!holds(html, "<script>alert"));
    CHECK(!holds(html, "<img src=x"));
    CHECK(!holds(html, "<b>bold"));
    CHECK(holds(html, "&lt;/pre&gt;&lt;script&gt;alert(&#39;data&#39;)&lt;/script&gt;&quot;&gt;"));
    CHECK(holds(html, "&lt;b&gt;bold&lt;/b&gt; &amp; brash"));
    CHECK(holds(html, "some &lt;other&gt;.png"));
    // An unknown preset is shown, but no command is made of it.
    Json config = read_json(results / "sparse/config.json");
    config["preset"] = "<script>alert(2)</script>";
    write_json_atomic(results / "sparse/config.json", config);
    const std::string odd = report_html(results.root);
    CHECK(!holds(odd, "<script>alert"));
    CHECK(!holds(odd, "--preset &lt;"));
    CHECK(holds(odd, "--stages classic"));  // the two runs now differ: each gets its command
}

TEST_CASE("report: says which files are missing and what makes them") {
    const Results results;
    for (const std::string file :
         {"comparison/performance_comparison.png", "comparison/attention_statistics.json",
          "classic/training_results.json", "sparse/config.json", "comparison/comparison_metrics.json"}) {
        fs::remove(results / file);
        CHECK_MESSAGE(holds(report_html(results.root), "<li>" + file + " is missing; ./"), file);
    }
    // The other model's configuration tells how to train the one whose own is lost.
    CHECK(holds(report_html(results.root), "--classic_steps 30"));
    for (const std::string& picture : pictures) fs::remove(results / picture);
    const std::string bare = report_html(results.root);
    CHECK(holds(bare, "comparison holds no attention pictures; ./tools/visualize"));
    CHECK(!holds(bare, "<img"));
    CHECK(holds(bare, "– → 2.7500"));
    fs::remove(results / "sparse/training_results.json");
    check_error(results.root +
                    ": holds no results of an experiment (neither classic, sparse nor comparison); give a "
                    "folder such as results",
                [&] { report_html(results.root); });
    check_error("/nowhere: no such folder; give one such as results", [] { report_html("/nowhere/"); });
}

TEST_CASE("report: numbers and pictures of an earlier model are pointed out") {
    const Results results;
    Json old = metrics();
    old["performance"]["sparse"]["val_loss"] = 9.0;
    write_json_atomic(results / "comparison/comparison_metrics.json", old);
    write_picture(results / "comparison/indexer_heads_layer4.png");  // the small preset has layers 0 to 3
    const std::string html = report_html(results.root);
    CHECK(holds(html, "comparison_metrics.json was made before the sparse model was trained"));
    CHECK(holds(html, "indexer_heads_layer4.png is of an earlier model"));
    CHECK(count_of(html, "<img ") == pictures.size());
}

TEST_CASE("report: a damaged file is refused by name, and the old page stays") {
    const Results results;
    const std::string page = write_report(results.root, results / "comparison");
    CHECK(page == results / "comparison/report.html");
    const std::string before = read_file(page);
    const auto damaged = [&](const std::string& file, const std::string& content, const std::string& part) {
        const std::string whole = read_file(results / file);
        write_file_atomic(results / file, content);
        INFO(file);
        check_refused(results.root, part);
        CHECK_THROWS_AS(write_report(results.root, results / "comparison"), Error);
        write_file_atomic(results / file, whole);
    };
    damaged("classic/training_results.json", "{\n \"steps\": [1,", "training_results.json:2:");
    damaged("classic/training_results.json", "{}", "has no steps; is it of another version?");
    Json uneven = read_json(results / "sparse/training_results.json");
    uneven["indexer_recall"].erase(0);
    damaged("sparse/training_results.json", uneven.dump(), "3 steps but 2 values of indexer_recall");
    uneven["indexer_recall"] = uneven["val_loss"] = Json::array();
    damaged("sparse/training_results.json", uneven.dump(), "3 steps but 0 values of val_loss");
    damaged("comparison/comparison_metrics.json", "[1]", "want one JSON object");
    damaged("comparison/comparison_metrics.json", "{}", "has no /performance/classic/val_loss");
    damaged("comparison/attention_statistics.json", "[]", "want one JSON object; is it of another version?");
    damaged("comparison/attention_statistics.json", R"({"windows": "many"})",
            "/windows is \"many\", want a number");
    damaged("sparse/config.json", R"({"d_model": "wide"})", "d_model is \"wide\", want a whole number");
    const std::string picture = read_file(results / pictures[0]);
    damaged(pictures[0], picture.substr(0, picture.size() - 1), "not a whole PNG");
    damaged(pictures[0], "", "not a whole PNG");
    CHECK(read_file(page) == before);
    fail_file_step_after(2);
    CHECK_THROWS_AS(write_report(results.root, results / "comparison"), Error);
    fail_file_step_after(0);
    CHECK(read_file(page) == before);
    CHECK_THROWS_AS(write_report(results.root, page), Error);
}

TEST_CASE("report: a browser shows every picture, sorts tables and runs no foreign script") {
    std::string version;
    if (run_command("chromium --version", version) != 0) return skip("needs the Debian package chromium");
    const Results results;
    std::string html = report_html(results.root);
    // Runs in the page after it has loaded; what it writes is read back from the dumped document.
    const std::string probe = R"js(<script>
window.alert = text => { window.alerted = text; };
addEventListener('load', () => {
  const lines = [];
  const say = (what, value) => lines.push(what + '=' + value);
  const images = [...document.images];
  say('images', images.length);
  say('broken', images.filter(image => image.naturalWidth === 0).length);
  say('size', images[0].naturalWidth + 'x' + images[0].naturalHeight);
  say('overflow', document.documentElement.scrollWidth - document.documentElement.clientWidth);
  const table = document.querySelector('#curves table');
  const heads = table.tHead.rows[0].cells;
  const column = i => [...table.tBodies[0].rows].map(row => row.cells[i].textContent).join(' ');
  heads[3].querySelector('button').click();
  say('ascending', heads[3].getAttribute('aria-sort') + ' ' + column(3));
  heads[3].querySelector('button').click();
  say('descending', heads[3].getAttribute('aria-sort') + ' ' + column(3));
  heads[8].querySelector('button').click();
  heads[8].querySelector('button').click();
  say('empty', column(8));
  heads[0].querySelector('button').click();
  say('text', column(0) + ' ' + heads[8].getAttribute('aria-sort'));
  const frame = document.querySelector('.frame');
  frame.click();
  say('frame', frame.className);
  say('alerted', window.alerted);
  say('scripts', document.scripts.length);
  document.body.textContent = '';
  document.body.id = 'probe';
  document.body.textContent = lines.join('|');
});
</script></body>)js";
    html.replace(html.rfind("</body>"), 7, probe);
    write_file_atomic(results.folder / "probe.html", html);
    for (const char* size : {"1280,900", "500,900"}) {
        std::string dom;
        const int status = run_command(
            "chromium --headless --no-sandbox --disable-gpu --virtual-time-budget=5000 --user-data-dir='" +
                (results.folder / "profile") + "' --window-size=" + size + " --dump-dom 'file://" +
                (results.folder / "probe.html") + "' 2>/dev/null",
            dom);
        REQUIRE(status == 0);
        const size_t body = dom.find("<body id=\"probe\">");
        REQUIRE(body != std::string::npos);
        const std::string found = dom.substr(body);
        INFO(found);
        for (const std::string& line :
             {"images=" + std::to_string(pictures.size()), std::string("broken=0"),
              std::string("size=120x80"), std::string("overflow=0"),
              std::string("ascending=ascending 2.5000 2.7500 3.5000 3.7500 4.5000 4.7500"),
              std::string("descending=descending 4.7500 4.5000 3.7500 3.5000 2.7500 2.5000"),
              std::string("empty=0.700 0.600 0.500 – – –"),
              std::string("text=classic classic classic sparse sparse sparse null"),
              std::string("frame=frame full"), std::string("alerted=undefined"), std::string("scripts=2")})
            CHECK_MESSAGE(holds(found, line + "|") != holds(found, line + "</body>"), line);
    }
}
