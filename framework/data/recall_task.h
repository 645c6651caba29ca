// Associative recall with distractors: a text whose right continuation is known, however long it is. After the
// multi-query task of Arora et al., "Zoology" (2023).
//
//   .,K3;+x0:..a7,-Q1  ...  K3Q1a7K3a7 ...
//   context: T/2 bytes      questions: pairs "key value", each key's value that of the context
//
// A sequence has T bytes and is a document. Its context holds 2 P pairs of a letter and a digit, the letters all
// different, at random places in a noise of punctuation. P of them are asked for in the questions, round after
// round, each round in a new random order: so that no answer can be told by its place, and all of them teach to
// find a key. The other P are distractors. The answers that count are the first to each question: what comes later
// can be copied from nearby. Chance is a tenth. To answer, attention must find one key among T/2
// bytes, and a selector must have kept it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "framework/core/named_enum.h"
#include "framework/data/corpus.h"

namespace sieve {

enum class Task { text, recall };
template <>
inline constexpr auto enum_names<Task> = std::to_array<NamedValue<Task>>({{Task::text, "text"},
                                                                          {Task::recall, "recall"}});

struct RecallTask {
    int64_t seq_len = 128;  // T
    int64_t pairs = 8;      // P
    int64_t sequences = 1000;
};

// A usage error unless 1 <= P <= 26 and T >= 8 P: the context is to hold all pairs.
void check_recall_task(int64_t seq_len, int64_t pairs);

// Sequence i is the same for every run, whatever the other settings are.
Corpus recall_corpus(const RecallTask& task);

// The places of the P keys whose values are to be told for the first time, ascending: the answer to place t is
// byte t + 1. `sequence`: T bytes, or the T of a window, which may lack the last.
std::vector<int64_t> recall_questions(std::string_view sequence, int64_t seq_len);

}  // namespace sieve
