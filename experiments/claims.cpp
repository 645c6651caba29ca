// The claims that were made about sparse attention, each put to the test by trainings.
#include "framework/runs/claims.h"

#include <fmt/format.h>

#include "framework/core/error.h"
#include "framework/program/command_line.h"

namespace sieve {
namespace {

int main_of(int argc, char** argv) {
    ClaimsCommand a;
    ToolCommand command("claims",
                        "Trains what contradicts or confirms each claim about sparse attention, and writes "
                        "the page of results. A "
                        "run that has its line in OUT/results/runs.jsonl is not repeated; after Ctrl-C the "
                        "same command goes on.");
    command.group("Claims");
    command.option("only", a.only, "one claim, by its name; empty: all");
    command.option("seeds", a.seeds, "of each run: 42, 43, ...");
    command.option(
        "quick", a.quick,
        "tiny models in a folder of their own, and a check of the main signs: the program's own test; "
        "another build does it anew, and so does this one without the folder");
    command.option("report", a.report, "train nothing: write the page again from the runs that are there");
    command.group("Files");
    command.option("out", a.out,
                   "of results.md and results/runs.jsonl; empty: docs, with --quick "
                   "results/claims_quick");
    command.option("readme", a.readme,
                   "holds the summary between <!-- claims --> markers; empty: README.md, with --quick none");
    command.option("results_dir", a.results_dir,
                   "of the runs' folders; empty: results/claims, with --quick results/claims_quick");
    command.option("data", a.data, "text; empty: data/corpus, with --quick data/excerpt");
    command.option("cache_dir", a.cache_dir, "where tokenised text is kept");
    command.group("Running");
    command.option("device", a.device, "auto, cpu or cuda");
    command.option("threads", a.threads, "0: all cores");
    if (!command.parse(argc, argv)) return 0;
    if (a.seeds < 1 || a.seeds > 1000) fail_usage(fmt::format("seeds: {}, want 1 to 1000", a.seeds));
    const auto set = [](std::string& text, const std::string& value) {
        if (text.empty()) text = value;
    };
    set(a.out, a.quick ? "results/claims_quick" : "docs");
    set(a.results_dir, a.quick ? "results/claims_quick" : "results/claims");
    set(a.data, a.quick ? "data/excerpt" : "data/corpus");
    if (!a.quick) set(a.readme, "README.md");
    return run_claims(a);
}

}  // namespace
}  // namespace sieve

int main(int argc, char** argv) {
    return sieve::run_program("claims", sieve::experiment_flags(),
                              [&] { return sieve::main_of(argc, argv); });
}
