// What made the files of a run's folder: manifest.json, written before the first step. Whoever reads results
// sees from it whether they are of one run, and whether two runs may stand in one table.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "framework/data/dataset.h"
#include "framework/program/config.h"
#include "framework/program/device.h"

namespace sieve {

// One process that worked on a run: the one that began it, or one that went on.
struct RunSession {
    std::string started;  // "2026-11-29T10:35:12Z"
    std::string version, commit;
    std::vector<std::string> command;  // the command line, word by word
    MachineUsed machine;
};

struct Manifest {
    std::string run;          // what tells this run from all others; its other files hold it too
    ExperimentConfig config;  // of this variant
    std::string data;         // Dataset::description()
    DataFingerprint fingerprint;
    std::vector<SourceShare> sources;  // what is held out of them; in older manifests none
    std::vector<RunSession> sessions;  // the first began the run
};

// Of a run that this process begins now.
Manifest new_manifest(const ExperimentConfig& config, const Dataset& data, Device device);
// This process, as one more that works on a run.
RunSession this_session(Device device);

nlohmann::ordered_json manifest_to_json(const Manifest& manifest);
// Throws a bad_file error that begins with `source`.
Manifest manifest_from_json(const nlohmann::ordered_json& json, const std::string& source);

// folder/manifest.json.
void write_manifest(const std::string& folder, const Manifest& manifest);
Manifest read_manifest(const std::string& folder);

// Something in which two runs differ, as it is written for people.
struct Difference {
    std::string key, was, is;
    bool operator==(const Difference&) const = default;
};
// "seed 42 and 7, sparse_top_k 8 and 4"
std::string describe(const std::vector<Difference>& differences);

// In the keys of `variant` that shape its numbers, as concerns() knows them.
std::vector<Difference> config_differences(const ExperimentConfig& was, const ExperimentConfig& is,
                                           AttentionKind variant);
// Of the classic and the sparse model of one comparison: in the keys that concern both.
std::vector<Difference> config_differences(const ExperimentConfig& classic, const ExperimentConfig& sparse);
// "the text", "the tokenizer": of what lies under a name that may be the same.
std::vector<Difference> data_differences(const DataFingerprint& was, const DataFingerprint& is);

}  // namespace sieve
