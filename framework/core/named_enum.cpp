#include "framework/core/named_enum.h"

#include <algorithm>

#include "framework/core/error.h"

namespace sieve {
namespace {

size_t edit_distance(const std::string& a, const std::string& b) {
    std::vector<size_t> row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= a.size(); ++i) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.size(); ++j) {
            const size_t substituted = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
        }
    }
    return row[b.size()];
}

// All that are as near as any, at most `distance` edits away.
std::vector<std::string> nearest_within(size_t distance, const std::string& mistyped,
                                        const std::vector<std::string>& known) {
    std::vector<std::string> nearest;
    for (const std::string& name : known) {
        // At least that many letters are wrong, and a name may be as long as a file.
        const size_t difference =
            std::max(mistyped.size(), name.size()) - std::min(mistyped.size(), name.size());
        if (difference > distance) continue;
        const size_t here = edit_distance(mistyped, name);
        if (here > distance) continue;
        if (here < distance) nearest.clear();
        distance = here;
        nearest.push_back(name);
    }
    return nearest;
}

// The list beside it shows all names, so only what is surely meant is worth a question: one of a name's
// letters in three may be wrong, none of a very short one.
std::string meant(const std::string& text, const std::vector<std::string>& known) {
    const std::vector<std::string> nearest =
        nearest_within(text.size() < 4 ? 0 : text.size() / 3, text, known);
    return nearest.size() == 1 ? ", did you mean " + nearest.front() + "?" : "";
}

}  // namespace

std::string nearest_name(const std::string& mistyped, const std::vector<std::string>& known) {
    const std::vector<std::string> nearest =
        nearest_within(std::max<size_t>(2, mistyped.size() / 3), mistyped, known);
    return nearest.empty() ? "" : nearest.front();
}

std::string wanted_name(const std::string& text, const std::vector<std::string>& known) {
    return one_of(known) + meant(text, known);
}

std::string wanted_names(const std::string& list, const std::vector<std::string>& known) {
    std::string question;
    for (const std::string& name : split_names(list))
        if (question.empty() && std::find(known.begin(), known.end(), name) == known.end())
            question = meant(name, known);
    return "a list of " + enumerated(known, "and") + question;
}

std::vector<std::string> split_names(const std::string& list) {
    std::vector<std::string> items;
    for (size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
        end = list.find(',', begin);
        items.push_back(list.substr(begin, end - begin));
    }
    return items;
}

void fail_usage_of(const std::string& what, const std::string& text, const std::string& wanted) {
    fail_usage(what + ": '" + text + "', want " + wanted);
}

}  // namespace sieve
