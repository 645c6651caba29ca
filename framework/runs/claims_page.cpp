// The page of the claims, made of the lines of runs.jsonl alone.
#include <fmt/format.h>

#include <cstring>
#include <map>
#include <set>

#include "framework/program/progress.h"
#include "framework/runs/claims.h"
#include "framework/runs/claims_figures.h"

namespace sieve {
namespace {

struct Unit {
    double factor = 1;
    int decimals = 4;
    const char* text = "";
};

Unit unit_of(const ClaimRow& row) {
    if (row.comparison == Comparison::gap) return {.decimals = 1};
    if (row.comparison == Comparison::relative) return {.factor = 100, .decimals = 2, .text = " %"};
    for (const char* share : {"val_accuracy", "answer_accuracy", "sparsity_square", "sparsity_causal",
                              "memory_change", "loss_above_best", "finished"})
        if (!std::strcmp(row.metric, share))
            return {.factor = 100,
                    .decimals = 2,
                    .text = row.comparison == Comparison::difference ? " points" : " %"};
    return {.decimals = std::strcmp(row.metric, "speedup") ? 4 : 2};
}

std::string plain(double value, const Unit& unit) {
    return fmt::format("{:.{}f}", unit.factor * value, unit.decimals);
}

// "1.02 ± 0.03", "1.02" of one seed.
std::string text_of(const Interval& number, const Unit& unit) {
    if (number.n == 0) return "not run";
    std::string text = plain(number.mean, unit);
    if (!std::isnan(number.half_width)) text += " ± " + plain(number.half_width, unit);
    return text + unit.text;
}

std::string text_of(const Range& range, const Unit& unit) {
    const auto bound = [&](double value) { return fmt::format("{:g}", unit.factor * value); };
    if (std::isinf(range.most)) return "at least " + bound(range.least) + unit.text;
    if (std::isinf(range.least)) return "at most " + bound(range.most) + unit.text;
    return bound(range.least) + " to " + bound(range.most) + unit.text;
}

struct JudgedClaim {
    const Claim& claim;
    std::vector<Interval> numbers;  // one a row
    ClaimVerdict verdict;
};

JudgedClaim judge(const Claim& claim, const ClaimsCommand& command, const RunRecords& records) {
    JudgedClaim judged{.claim = claim};
    std::vector<ClaimVerdict> verdicts;
    for (const ClaimRow& row : claim.rows) {
        judged.numbers.push_back(number_of(row, command, records));
        if (row.claimed) verdicts.push_back(judge_row(judged.numbers.back(), row.comparison, *row.claimed));
    }
    judged.verdict = judge_claim(verdicts);
    return judged;
}

std::string comparison_text(const ClaimRow& row) {
    switch (row.comparison) {
        case Comparison::value:
            return row.metric;
        case Comparison::difference:
            return fmt::format("difference of {}", row.metric);
        case Comparison::relative:
            return fmt::format("relative difference of {}", row.metric);
        case Comparison::gap:
            return fmt::format("gap of {} in deviations between seeds", row.metric);
    }
    return "";
}

std::string lines_of(const JudgedClaim& judged) {
    std::string text;
    for (size_t i = 0; i < judged.claim.rows.size(); ++i) {
        const ClaimRow& row = judged.claim.rows[i];
        const Interval& number = judged.numbers[i];
        const Unit unit = unit_of(row);
        const bool is_judged = row.claimed.has_value();
        text += fmt::format("| {} | {} | {} | {} | {} | {} | {} |\n", judged.claim.name, row.setting,
                            comparison_text(row), number.n, text_of(number, unit),
                            is_judged ? text_of(*row.claimed, unit) : "",
                            is_judged ? name_of(judge_row(number, row.comparison, *row.claimed)) : "");
    }
    return text;
}

std::string verdicts_table(const ClaimsCommand& command, const RunRecords& records) {
    std::string text = "| claim | verdict | command |\n|---|---|---|\n";
    for (const Claim& claim : claims()) {
        const JudgedClaim judged = judge(claim, command, records);
        const bool built = !claim.rows.empty();
        text += fmt::format("| {} | {} | {} |\n", claim.text, name_of(judged.verdict),
                            built ? fmt::format("`./experiments/claims{} --only {}`",
                                                command.quick ? " --quick" : "", claim.name)
                                  : "missing: " + claim.not_built);
    }
    return text;
}

std::string list_of(const std::set<std::string>& texts) {
    std::string list;
    for (const std::string& text : texts)
        if (!text.empty()) list += (list.empty() ? "" : "; ") + text;
    return list.empty() ? "none" : list;
}

// "cpu, 1 thread, AMD EPYC"; older lines have "1 threads".
std::string machine_words(std::string machine) {
    const std::string wrong = ", 1 threads,";
    if (const size_t at = machine.find(wrong); at != std::string::npos)
        machine.replace(at, wrong.size(), ", 1 thread,");
    return machine;
}

// A line for one machine, a list of several.
std::string lines_of(const std::map<std::string, int64_t>& machines) {
    if (machines.empty()) return "* machine: none\n";
    if (machines.size() == 1) return fmt::format("* machine: {}\n", machines.begin()->first);
    std::string text = fmt::format("* machines: {}\n", machines.size());
    for (const auto& [machine, runs] : machines)
        text += fmt::format("  * {}: {} run{}\n", machine, runs, runs == 1 ? "" : "s");
    return text;
}

// Who made the numbers.
std::string provenance(const RunRecords& records) {
    std::set<std::string> commits, data;
    std::map<std::string, int64_t> machines;  // and how many runs are theirs
    double seconds = 0;
    for (const auto& [name, record] : records.all()) {
        commits.insert(record.commit), ++machines[machine_words(record.machine)];
        data.insert(record.data.substr(0, record.data.find(';')));  // without how it was cut into tokens
        seconds += record.seconds;
    }
    return fmt::format("* runs: {}, {} in all\n* commits: {}\n{}* data: {}\n", records.all().size(),
                       human_time(seconds), list_of(commits), lines_of(machines), list_of(data));
}

std::string pictures(const ClaimsCommand& command, const RunRecords& records) {
    std::string text;
    std::vector<ClaimFigure> figures = claims_figures(command, records);
    for (ClaimFigure& figure : figures)
        text += fmt::format("\n![{}](results/{})\n\n{}.\n", figure.figure.at(0, 0).title, figure.file,
                            figure.caption);
    return text.empty() ? text : "\n## Figures\n" + text;
}

constexpr const char* rule =
    R"(A number is the mean over n seeds ± the half width of its 95 % interval by Student's t. Comparisons are made seed by seed,
with the same initial weights, batches and text. A row *holds* when its interval lies within what is claimed, *does not*
when it lies outside, and is *undecided* when the interval holds a bound or there are fewer than 2 seeds; a gap in
deviations has no interval and is decided from 3 seeds on. Rows without a verdict are there to be read. A claim *holds* or
*does not* when all of its judged rows say so, *depends* when one holds and another does not, and is *undecided* otherwise.
The models are the presets small, medium and long, which two cores can train: nothing here speaks of large ones. Speed-ups are
those of the machines named above.
)";

}  // namespace

std::string claims_page(const ClaimsCommand& command, const RunRecords& records) {
    const char* quick = command.quick ? " --quick" : "";
    std::string text = fmt::format(
        "# The claims, measured\n\nWritten by `./experiments/claims{0} --report` from `results/runs.jsonl`, "
        "a line a run; "
        "edits are lost.\n`./experiments/claims{0}` runs what is missing there.\n\n",
        quick);
    if (command.quick)
        text += "Tiny models: these numbers say that the program works, and nothing about the claims.\n\n";
    text += provenance(records) + "\n## Verdicts\n\n" + verdicts_table(command, records) +
            pictures(command, records);
    text +=
        std::string("\n## Numbers\n\n") + rule +
        "\n| claim | setting | number | n | measured | claimed | verdict |\n|---|---|---|---|---|---|---|\n";
    for (const Claim& claim : claims()) text += lines_of(judge(claim, command, records));
    return text;
}

std::string claims_summary(const ClaimsCommand& command, const RunRecords& records) {
    std::string text = "\n| claim | verdict |\n|---|---|\n";
    int64_t not_run = 0, not_built = 0;
    for (const Claim& claim : claims()) {
        const ClaimVerdict verdict = judge(claim, command, records).verdict;
        not_run += verdict == ClaimVerdict::not_run, not_built += verdict == ClaimVerdict::not_built;
        if (verdict != ClaimVerdict::not_run && verdict != ClaimVerdict::not_built)
            text += fmt::format("| {} | {} |\n", claim.text, name_of(verdict));
    }
    return text + fmt::format("\nNot run: {}; not built yet: {}.\n\n", not_run, not_built);
}

}  // namespace sieve
