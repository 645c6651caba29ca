// What is held out of a text, and what is left to learn from: a function of the documents' content alone.
// Files may be renamed or come in another order, and a document may occur twice: it is cut in the same way.
//
// A share f of each document is held out, in blocks that are spread evenly over it. With n bytes in the document,
// b in a block, and u, v in [0, 1) from the hash of its content:
//
//   n < 2 b     the whole document is held out when u >= 1 - f
//   otherwise   m = floor(f n / b + u) blocks; block i begins at (i + v) n / m - v b, moved to the next line's or
//               word's beginning
//
// so that f n bytes are held out on average. b is 8 KiB; less for a text in which that would be fewer than 8 blocks,
// and more where it would not hold a few windows: 16 bytes for each of their tokens, at most a quarter of the text.
// With windows of up to 511 tokens the same text is thus held out, whatever the vocabulary. Of a text so short
// that no block falls to validation, or nothing but blocks, the document nearest to the opposite changes sides.
//
// Documents are in the order of their sources' content and then of their own, on either side. A passage that
// stands in two documents may be on both sides.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "framework/core/named_enum.h"
#include "framework/data/corpus.h"

namespace sieve {

enum class HeldOut {
    blocks,  // as above
    tail,    // the last tokens, whatever file they are of: what runs did before
};
template <>
inline constexpr auto enum_names<HeldOut> = std::to_array<NamedValue<HeldOut>>({{HeldOut::blocks, "blocks"},
                                                                                {HeldOut::tail, "tail"}});

// A stretch of a document, or all of it.
struct TextPiece {
    std::string_view text;  // of the corpus, which must outlive it
    int64_t source = 0;     // whose part it is: TextSplit::sources
    bool begins_document = true, ends_document = true;
};

// One file of the corpus, or all files of a folder when there are more than 64.
struct SourceShare {
    std::string name;
    int64_t bytes = 0, held_out_bytes = 0,
            blocks = 0;  // blocks: whole documents that are held out among them
};

struct TextSplit {
    std::vector<TextPiece> train, validation;
    std::vector<SourceShare> sources;  // in the order of the pieces; none for whole_text
    uint64_t hash = 0;                 // of all that the pieces are, by the documents' hashes and the cuts
};

TextSplit hold_out_blocks(const Corpus& corpus, double val_fraction, int64_t seq_len);
// Every document is a piece to train on, in the corpus' order: windows.h splits their tokens.
TextSplit whole_text(const Corpus& corpus);

// "28 blocks, 10.1 % of the text, from 6 of 6 sources"
std::string describe_held_out(const TextSplit& split);

}  // namespace sieve
