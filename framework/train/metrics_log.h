// What a variant's folder says about each training step, while it trains and afterwards:
//
//   metrics.jsonl            one JSON object a step; at evaluations it also holds the validation numbers
//   metrics.csv              the same as a table; cells of steps that were not evaluated are empty
//   events.out.tfevents.*    the same for TensorBoard, with --tensorboard; tags train/..., val/...,
//                            indexer/... and warm-up/...
//
// metrics.jsonl is the record, the other two are written from the same rows. Resuming reads it back, keeps
// the steps up to the checkpoint's, and writes all files anew: no step appears twice and a line that a kill
// tore is gone.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "framework/io/append_file.h"
#include "framework/train/trainer.h"

namespace sieve {

struct MetricsRow {
    StageKind stage = StageKind::classic;
    int64_t step = 0;  // within its stage, from 1
    double time = 0;   // when it was logged, in seconds since 1970; append sets it
    // What was not measured is left out of metrics.jsonl, and an empty cell in metrics.csv; infinities are
    // there, as json_number and as inf.
    Measurement numbers;
};

// The rows of folder/metrics.jsonl; lines that are torn or not of this program are left out. A missing file
// has none.
std::vector<MetricsRow> read_metrics(const std::string& folder);

// The rows up to and including that step; a stage that comes later counts as a later step.
std::vector<MetricsRow> rows_until(std::vector<MetricsRow> rows, StageKind stage, int64_t step);

// The names of the event files in the folder.
std::vector<std::string> event_files(const std::string& folder);

class MetricsLog {
  public:
    // Begins the files of `folder` anew, with the rows `kept` of an earlier part of the run.
    MetricsLog(const std::string& folder, bool tensorboard, const std::vector<MetricsRow>& kept);
    void append(MetricsRow row);
    void sync();  // what a checkpoint counts as done is in these files even after a power cut

  private:
    std::unique_ptr<AppendFile> jsonl_, csv_, events_;  // events_: null without TensorBoard
};

}  // namespace sieve
