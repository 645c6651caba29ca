#include "framework/train/manifest.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <random>

#include "framework/core/error.h"
#include "framework/core/version.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"

namespace sieve {
namespace {

using Json = nlohmann::ordered_json;

std::string now_utc() {
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(now)));
}

// A name that no other run has. Nothing else of a run may depend on it.
std::string new_run_name() {
    std::random_device random;
    return fmt::format("{}-{:08x}", now_utc(), static_cast<uint32_t>(random()));
}

// The words of this process' command line, as the system keeps them.
std::vector<std::string> command_line() {
    std::vector<std::string> words;
    const std::string text = read_file("/proc/self/cmdline");
    for (size_t at = 0; at < text.size(); at += words.back().size() + 1)
        words.emplace_back(text.c_str() + at);
    return words;
}

Json json_of(const RunSession& session) {
    const MachineUsed& m = session.machine;
    return {{"started", session.started}, {"version", session.version}, {"commit", session.commit},
            {"command", session.command}, {"processor", m.processor},   {"device", m.device},
            {"kernels", m.kernels},       {"threads", m.threads},       {"precision", name_of(m.precision)}};
}

RunSession session_of(const Json& json) {
    RunSession session;
    json.at("started").get_to(session.started);
    json.at("version").get_to(session.version);
    json.at("commit").get_to(session.commit);
    json.at("command").get_to(session.command);
    MachineUsed& m = session.machine;
    json.at("processor").get_to(m.processor);
    json.at("device").get_to(m.device);
    json.at("kernels").get_to(m.kernels);
    json.at("threads").get_to(m.threads);
    m.precision = value_named<Precision>(json.at("precision").get<std::string>()).value();
    return session;
}

void read_held_out(const Json& data, Manifest& manifest) {
    data.at("held_out_xxh3").get_to(manifest.fingerprint.held_out);
    for (const Json& source : data.at("sources")) {
        SourceShare& s = manifest.sources.emplace_back();
        source.at("name").get_to(s.name);
        source.at("bytes").get_to(s.bytes);
        source.at("held_out_bytes").get_to(s.held_out_bytes);
        source.at("held_out_blocks").get_to(s.blocks);
    }
}

std::string file_of(const std::string& folder) {
    return folder + "/manifest.json";
}

}  // namespace

RunSession this_session(Device device) {
    const Version build = version();
    return {.started = now_utc(),
            .version = build.number,
            .commit = build.commit,
            .command = command_line(),
            .machine = machine_used(device)};
}

Manifest new_manifest(const ExperimentConfig& config, const Dataset& data, Device device) {
    return {.run = new_run_name(),
            .config = config,
            .data = data.description(),
            .fingerprint = data.fingerprint(),
            .sources = data.sources(),
            .sessions = {this_session(device)}};
}

Json manifest_to_json(const Manifest& manifest) {
    Json json{{"run", manifest.run}, {"sessions", Json::array()}};
    for (const RunSession& session : manifest.sessions) json["sessions"].push_back(json_of(session));
    json["data"] = {{"description", manifest.data},
                    {"corpus_xxh3", manifest.fingerprint.corpus},
                    {"tokenizer_xxh3", manifest.fingerprint.tokenizer},
                    {"held_out_xxh3", manifest.fingerprint.held_out},
                    {"sources", Json::array()}};
    for (const SourceShare& s : manifest.sources)
        json["data"]["sources"].push_back({{"name", s.name},
                                           {"bytes", s.bytes},
                                           {"held_out_bytes", s.held_out_bytes},
                                           {"held_out_blocks", s.blocks}});
    json["config"] = config_to_json(manifest.config);
    return json;
}

Manifest manifest_from_json(const Json& json, const std::string& source) {
    Manifest manifest;
    try {
        json.at("run").get_to(manifest.run);
        for (const Json& session : json.at("sessions")) manifest.sessions.push_back(session_of(session));
        json.at("data").at("description").get_to(manifest.data);
        json.at("data").at("corpus_xxh3").get_to(manifest.fingerprint.corpus);
        json.at("data").at("tokenizer_xxh3").get_to(manifest.fingerprint.tokenizer);
        if (json.at("data").contains("held_out_xxh3"))
            read_held_out(json.at("data"), manifest);  // not in older ones
    } catch (const std::exception&) {
        fail_bad_file(fmt::format("{}: not a manifest.json of this version", source));
    }
    if (manifest.sessions.empty()) fail_bad_file(fmt::format("{}: names no session", source));
    manifest.config = config_from_json(json.value("config", Json()), source, true);
    return manifest;
}

void write_manifest(const std::string& folder, const Manifest& manifest) {
    write_json_atomic(file_of(folder), manifest_to_json(manifest));
}

Manifest read_manifest(const std::string& folder) {
    return manifest_from_json(read_json(file_of(folder)), file_of(folder));
}

std::string describe(const std::vector<Difference>& differences) {
    std::string text;
    for (const Difference& d : differences)
        text += fmt::format("{}{} {} and {}", text.empty() ? "" : ", ", d.key, d.was, d.is);
    return text;
}

namespace {

template <class Counts>
std::vector<Difference> differences_in(ExperimentConfig was, ExperimentConfig is, const Counts& counts) {
    const std::vector<ConfigKey> before = config_keys(was), now = config_keys(is);
    std::vector<Difference> differences;
    for (size_t i = 0; i < now.size(); ++i) {
        if (!now[i].saved() || !counts(now[i])) continue;
        const std::string a = text_of(before[i].value), b = text_of(now[i].value);
        if (a != b) differences.push_back({now[i].name, a.empty() ? "''" : a, b.empty() ? "''" : b});
    }
    return differences;
}

}  // namespace

std::vector<Difference> config_differences(const ExperimentConfig& was, const ExperimentConfig& is,
                                           AttentionKind variant) {
    return differences_in(was, is, [&](const ConfigKey& key) { return concerns(key, variant, is); });
}

std::vector<Difference> config_differences(const ExperimentConfig& classic, const ExperimentConfig& sparse) {
    return differences_in(classic, sparse, [&](const ConfigKey& key) {
        return concerns(key, AttentionKind::classic, classic) && concerns(key, AttentionKind::sparse, sparse);
    });
}

std::vector<Difference> data_differences(const DataFingerprint& was, const DataFingerprint& is) {
    std::vector<Difference> differences;
    if (was.corpus != is.corpus) differences.push_back({"the text (XXH3)", was.corpus, is.corpus});
    if (was.tokenizer != is.tokenizer)
        differences.push_back({"the tokenizer (XXH3)", was.tokenizer, is.tokenizer});
    // The same text may be split otherwise by another version. Nothing: it is not held out in blocks.
    if (was.held_out != is.held_out && !was.held_out.empty() && !is.held_out.empty())
        differences.push_back({"the text held out (XXH3)", was.held_out, is.held_out});
    return differences;
}

}  // namespace sieve
