// What --resume makes of what a run's folder holds.
#pragma once

#include <string>

#include "framework/train/run_folder.h"

namespace sieve {

struct Continuation {
    enum class Kind {
        from_start,  // nothing to go on from
        keep,        // the run is complete, and what was asked for
        go_on,       // from the checkpoint and the logs in `from`
    };
    Kind kind = Kind::from_start;
    std::string from = {};
};

// Of a run of `config` on the data with this fingerprint, in `folder`. A complete run is kept when every key
// that concerns its variant, the text and the tokenizer are what they were, and its final_model.pt says so
// too. Otherwise an unfinished run goes on, or a complete one does with more steps. Only steps may differ
// then: those of stages that have not begun, and those of the stage that goes on, when they are not fewer
// than were done; its learning rates are from there on those of the new number of steps. Throws a usage error
// for any other difference, with old and new value and the ways out.
Continuation plan_resume(const std::string& folder, const ExperimentConfig& config,
                         const DataFingerprint& data);

}  // namespace sieve
