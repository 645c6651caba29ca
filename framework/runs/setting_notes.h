// What a configuration decides before any training, said before it: settings under which a comparison cannot come
// out otherwise, or under which a part is not trained.
#pragma once

#include <string>
#include <vector>

#include "framework/program/config.h"

namespace sieve {

// One line each; none for a setting that leaves everything open. `sparse`: whether a sparse model is looked at.
//   * the sparse model reads the future (i_know_this_leaks)
//   * every query reads all its keys (sparse_top_k >= max_seq_len), in all layers or in some
//   * random keys would be most of those that matter (a share of 0.6 or more, over the queries with a choice)
//   * no loss of the language model reaches the routers
std::vector<std::string> setting_notes(const ExperimentConfig& config, bool sparse);

}  // namespace sieve
