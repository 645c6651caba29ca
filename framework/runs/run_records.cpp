#include "framework/runs/run_records.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "framework/core/error.h"
#include "framework/io/append_file.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"

namespace sieve {
namespace {

using Json = nlohmann::ordered_json;

RunRecord record_of(const Json& json) {
    RunRecord record;
    json.at("run").get_to(record.run);
    json.at("variant").get_to(record.variant);
    json.at("seed").get_to(record.seed);
    record.config = json.at("config").dump();
    for (const auto& metric : json.at("metrics").items()) {
        const std::optional<double> value = number_in(metric.value());
        if (!value) throw std::invalid_argument(fmt::format("{} is {}", metric.key(), shown(metric.value())));
        record.metrics[metric.key()] = *value;
    }
    json.at("seconds").get_to(record.seconds);
    json.at("commit").get_to(record.commit);
    json.at("machine").get_to(record.machine);
    json.at("data").get_to(record.data);
    json.at("corpus").get_to(record.corpus);
    return record;
}

RunRecord record_of(const std::string& line, const std::string& place) {
    const Json json = parse_json(line, place);
    try {
        return record_of(json);
    } catch (const std::exception& e) {
        fail_bad_file(
            fmt::format("{}: no record of a run ({}); remove the line", place, json_reason(e.what())));
    }
}

}  // namespace

std::string line_of(const RunRecord& record) {
    Json metrics = Json::object();
    for (const auto& [name, value] : record.metrics) metrics[name] = json_number(value);
    const Json json{{"run", record.run},         {"variant", record.variant},
                    {"seed", record.seed},       {"metrics", metrics},
                    {"seconds", record.seconds}, {"commit", record.commit},
                    {"machine", record.machine}, {"data", record.data},
                    {"corpus", record.corpus},   {"config", parse_json(record.config, "config")}};
    return json.dump() + "\n";
}

RunRecords::RunRecords(std::string path, const std::function<std::string(const RunRecord&)>& name)
    : path_(std::move(path)) {
    if (!std::filesystem::exists(path_)) return;
    std::istringstream lines(read_file(path_));
    int64_t number = 0;
    for (std::string line; std::getline(lines, line);) {
        const std::string place = fmt::format("{}:{}", path_, ++number);
        RunRecord record = record_of(line, place);
        if (name) record.run = name(record);
        if (!records_.emplace(record.run, record).second)
            fail_bad_file(fmt::format("{}: the run {} stands further up already; remove one of the lines",
                                      place, record.run));
    }
}

const RunRecord* RunRecords::find(const std::string& run) const {
    const auto at = records_.find(run);
    return at == records_.end() ? nullptr : &at->second;
}

void RunRecords::add(const RunRecord& record) {
    AppendFile file(path_);
    file.append(line_of(record));
    file.sync();
    records_.emplace(record.run, record);
}

}  // namespace sieve
