// A file with one line of JSON for each run that has finished, to which lines are only ever added: what a
// page of results is made of, and what tells which runs need not be repeated.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "framework/train/manifest.h"

namespace sieve {

struct RunRecord {
    std::string run;      // names the configuration and the seed: equal for what would be the same run
    std::string variant;  // "classic", "sparse", or "both" of steps that the two do in turns
    int64_t seed = 0;
    std::string config;  // as config.json holds it, on one line
    std::map<std::string, double>
        metrics;          // of the last evaluation or of the run; what was not measured is missing
    double seconds = 0;   // the whole run's
    std::string commit;   // that trained it
    std::string machine;  // "cpu, 2 threads, AMD EPYC 9B45"
    std::string data;     // Dataset::description()
    std::string corpus;   // XXH3 of the text
};

// One line, with its end.
std::string line_of(const RunRecord& record);

class RunRecords {
  public:
    // Reads the file; one that is not there holds no run. `name`, when given, tells what a line's run is called
    // now. Throws a bad_file error that names the line for what is no record, and for a run that stands there
    // twice.
    explicit RunRecords(std::string path, const std::function<std::string(const RunRecord&)>& name = {});

    const RunRecord* find(const std::string& run) const;  // null: it has not been run
    const std::map<std::string, RunRecord>& all() const { return records_; }
    // Adds the line to the file in one write. The run is a new one.
    void add(const RunRecord& record);

  private:
    std::string path_;
    std::map<std::string, RunRecord> records_;
};

}  // namespace sieve
