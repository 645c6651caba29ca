#include "framework/train/run_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/train/metrics_log.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Written when all files of a run are there, before the first of them is moved: their names, as a JSON list.
constexpr const char* complete_mark = "complete.json";

std::string replaced_folder(const std::string& folder) {
    return folder + "/replaced";
}

std::string mark_of(const std::string& folder) {
    return unfinished_folder(folder) + "/" + complete_mark;
}

// Moves what is still there of the files that the mark lists. Done again after a kill it goes on where that
// one stopped.
void move_finished_files(const std::string& folder) {
    const std::string from = unfinished_folder(folder);
    const auto names = read_json(mark_of(folder)).get<std::vector<std::string>>();
    for (const std::string& name : names)
        if (fs::exists(from + "/" + name)) replace_file(from + "/" + name, folder + "/" + name);
    for (const std::string& name : event_files(folder))
        if (std::find(names.begin(), names.end(), name) == names.end()) remove_file(folder + "/" + name);
    remove_folder(from);
    remove_folder(replaced_folder(folder));
}

void check_one_run(const std::string& folder, const Manifest& manifest) {
    const std::string path = folder + "/training_results.json";
    const Json results = read_json(path);
    if (results.value("run", "") == manifest.run && !fs::exists(mark_of(folder))) return;
    fail_bad_file(fmt::format(
        "{}: its files are of two runs (manifest.json of {}, training_results.json of {}): a program was "
        "killed while it put new ones in place; the same training command with --resume completes it",
        folder, manifest.run, results.value("run", "an earlier version")));
}

}  // namespace

std::string unfinished_folder(const std::string& folder) {
    return folder + "/unfinished";
}

void prepare_run_folder(const std::string& folder) {
    if (fs::exists(mark_of(folder))) move_finished_files(folder);
    for (const std::string& place : {folder, unfinished_folder(folder), replaced_folder(folder)})
        remove_temporary_files(place);
}

void begin_run(const std::string& folder, const Manifest& manifest) {
    const std::string work = unfinished_folder(folder);
    if (unfinished_run(folder)) {
        remove_folder(replaced_folder(folder));
        replace_file(work, replaced_folder(folder));
        fmt::print(
            stderr,
            "{}: holds an interrupted run, which --resume would continue; it is moved to {} until this "
            "run is complete\n",
            work, replaced_folder(folder));
    }
    remove_folder(work);
    make_folder(work);
    write_manifest(work, manifest);
}

void finish_run(const std::string& folder) {
    const std::string work = unfinished_folder(folder);
    remove_file(work + "/checkpoint_previous.pt");
    remove_temporary_files(work);
    std::vector<std::string> names = names_in(work);
    // What readers look at first comes last.
    std::stable_partition(names.begin(), names.end(),
                          [](const std::string& n) { return n != "manifest.json"; });
    write_json_atomic(mark_of(folder), names);
    move_finished_files(folder);
}

std::optional<Manifest> finished_run(const std::string& folder) {
    if (!fs::exists(folder + "/final_model.pt") || !fs::exists(folder + "/training_results.json"))
        return std::nullopt;
    if (!fs::exists(folder + "/manifest.json"))
        fail_bad_file(fmt::format(
            "{}: has no manifest.json: it is of an earlier version of Sieve, and what made it is not "
            "known; train it again",
            folder));
    const Manifest manifest = read_manifest(folder);
    check_one_run(folder, manifest);
    return manifest;
}

std::optional<Manifest> unfinished_run(const std::string& folder) {
    const std::string work = unfinished_folder(folder);
    if (!fs::exists(work + "/checkpoint.pt") && !fs::exists(work + "/checkpoint_previous.pt"))
        return std::nullopt;
    return read_manifest(work);
}

}  // namespace sieve
