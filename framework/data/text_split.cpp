#include "framework/data/text_split.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "framework/core/hash.h"

namespace sieve {
namespace {

constexpr int64_t usual_block = 8192, most_sources = 64;
constexpr double least_blocks = 8;
// A cut moves on by at most so many bytes to where a line or a word begins.
constexpr size_t longest_move = 256;

struct Document {
    std::string_view text;
    int64_t source;
    uint64_t hash;
    int64_t blocks = 0;  // held out; of a whole document one

    // Two numbers in [0, 1) that the content decides.
    double u() const { return unit(hash); }
    double v() const { return unit(ContentHash().add(static_cast<int64_t>(hash)).value()); }
    int64_t bytes() const { return std::ssize(text); }

  private:
    static double unit(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }
};

int64_t block_bytes(int64_t total, double fraction, int64_t seq_len) {
    const double share = fraction * static_cast<double>(total) / least_blocks;
    const int64_t wanted = std::min(usual_block, static_cast<int64_t>(share));
    const int64_t least = 16 * (seq_len + 1);
    return std::max<int64_t>(1, std::min(std::max(wanted, least), total / 4));
}

bool is_cut(const Document& document, int64_t block) {
    return document.bytes() >= 2 * block;
}

int64_t blocks_of(const Document& document, double fraction, int64_t block) {
    if (!is_cut(document, block)) return document.u() >= 1 - fraction ? 1 : 0;
    const double share = fraction * static_cast<double>(document.bytes()) / static_cast<double>(block);
    const auto wanted = static_cast<int64_t>(share + document.u());
    return std::min(wanted, document.bytes() / block - 1);  // something is left to train on
}

// Both sides get text, where the corpus has two pieces at all.
void give_both_sides_something(std::vector<Document>& documents, int64_t block) {
    const auto by_u = [](const Document& a, const Document& b) { return a.u() < b.u(); };
    const auto change_all_like = [&](const Document& one, int64_t blocks) {
        for (const uint64_t hash = one.hash; Document & d : documents)
            if (d.hash == hash) d.blocks = blocks;
    };
    const bool none =
        std::all_of(documents.begin(), documents.end(), [](const Document& d) { return d.blocks == 0; });
    if (none) change_all_like(*std::max_element(documents.begin(), documents.end(), by_u), 1);
    const bool all = std::all_of(documents.begin(), documents.end(),
                                 [&](const Document& d) { return d.blocks == 1 && !is_cut(d, block); });
    if (all) change_all_like(*std::min_element(documents.begin(), documents.end(), by_u), 0);
}

// The next place from `at` on where a line begins, else a word (its space belongs to it), else a character.
size_t moved_to_boundary(std::string_view text, size_t at) {
    if (at == 0 || at >= text.size()) return std::min(at, text.size());
    const std::string_view near = text.substr(at, longest_move);
    if (const size_t line = near.find('\n'); line != std::string_view::npos) return at + line + 1;
    if (const size_t space = near.find(' '); space != std::string_view::npos) return at + space;
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
    return at;
}

// Cuts documents at their blocks and gives both sides their pieces.
class Cutter {
  public:
    Cutter(const TextStore& store, int64_t block, TextSplit& split)
        : release_(store), block_(block), split_(split) {}
    void cut(const Document& document);
    uint64_t hash() const { return hash_.value(); }

  private:
    void give(std::vector<TextPiece>& side, const Document& document, size_t begin, size_t end);

    TextRelease release_;
    int64_t block_;
    TextSplit& split_;
    ContentHash hash_;
};

void Cutter::give(std::vector<TextPiece>& side, const Document& document, size_t begin, size_t end) {
    if (begin == end) return;
    hash_.add(static_cast<int64_t>(begin)).add(static_cast<int64_t>(end)).add(&side == &split_.train);
    side.push_back({.text = document.text.substr(begin, end - begin),
                    .source = document.source,
                    .begins_document = begin == 0,
                    .ends_document = end == document.text.size()});
}

void Cutter::cut(const Document& document) {
    const std::string_view text = document.text;
    SourceShare& share = split_.sources[static_cast<size_t>(document.source)];
    hash_.add(static_cast<int64_t>(document.hash)).add(document.bytes());
    share.bytes += document.bytes();
    const double length =
        is_cut(document, block_) ? static_cast<double>(block_) : static_cast<double>(text.size());
    const double stretch = static_cast<double>(text.size()) / std::max<double>(1, document.blocks);
    size_t done = 0;
    for (int64_t i = 0; i < document.blocks; ++i) {
        const double begins = static_cast<double>(i) * stretch + document.v() * (stretch - length);
        const size_t begin = std::max(done, moved_to_boundary(text, static_cast<size_t>(begins)));
        const size_t end = std::max(begin, moved_to_boundary(text, static_cast<size_t>(begins + length)));
        give(split_.train, document, done, begin);
        give(split_.validation, document, begin, end);
        share.held_out_bytes += static_cast<int64_t>(end - begin);
        share.blocks += end > begin;
        release_.passed(text.substr(begin, 1));  // near which a line's beginning was looked for
        release_.passed(text.substr(end, 1));
        done = end;
    }
    give(split_.train, document, done, text.size());
}

// What the corpus' sources are counted as: each by itself; of more than `most_sources` all files of a folder
// together, and of more folders than that all files.
std::vector<std::string> source_names(const Corpus& corpus) {
    std::vector<std::string> names = corpus.sources;
    const auto too_many = [&] {
        std::vector<std::string> sorted = names;
        std::sort(sorted.begin(), sorted.end());
        return std::unique(sorted.begin(), sorted.end()) - sorted.begin() > most_sources;
    };
    if (too_many())
        for (std::string& name : names) name.resize(std::min(name.find('/'), name.size()));
    if (names.empty() || too_many()) names.assign(std::max<size_t>(1, names.size()), corpus.name);
    return names;
}

// Fills split.sources and gives the documents in the order of the split, each with its source in it.
std::vector<Document> ordered_documents(const Corpus& corpus, TextSplit& split) {
    const std::vector<std::string> names = source_names(corpus);
    std::map<std::string, std::vector<Document>> by_source;
    for (size_t i = 0; i < corpus.documents.size(); ++i) {
        const std::string_view text = corpus.documents[i];
        const size_t source = corpus.source_of.empty() ? 0 : static_cast<size_t>(corpus.source_of[i]);
        by_source[names[source]].push_back({text, 0, corpus.document_hashes[i]});
    }
    // Neither the names nor the order of the corpus may show: sources are ordered by what is in them.
    std::vector<std::pair<uint64_t, std::string>> order;
    for (auto& [name, documents] : by_source) {
        std::sort(documents.begin(), documents.end(),
                  [](const Document& a, const Document& b) { return a.hash < b.hash; });
        ContentHash hash;
        for (const Document& d : documents) hash.add(static_cast<int64_t>(d.hash));
        order.emplace_back(hash.value(), name);
    }
    std::sort(order.begin(), order.end());
    std::vector<Document> all;
    for (const auto& [hash, name] : order) {
        for (Document& d : by_source[name]) {
            d.source = std::ssize(split.sources);
            all.push_back(d);
        }
        split.sources.push_back({.name = name});
    }
    return all;
}

}  // namespace

TextSplit hold_out_blocks(const Corpus& corpus, double val_fraction, int64_t seq_len) {
    TextSplit split;
    std::vector<Document> documents = ordered_documents(corpus, split);
    const int64_t block = block_bytes(corpus.bytes(), val_fraction, seq_len);
    for (Document& d : documents) d.blocks = blocks_of(d, val_fraction, block);
    if (!documents.empty()) give_both_sides_something(documents, block);
    Cutter cutter(*corpus.store, block, split);
    for (const Document& d : documents) cutter.cut(d);
    split.hash = cutter.hash();
    return split;
}

TextSplit whole_text(const Corpus& corpus) {
    TextSplit split;
    for (const std::string_view document : corpus.documents) split.train.push_back({.text = document});
    split.hash = corpus.hash;
    return split;
}

std::string describe_held_out(const TextSplit& split) {
    SourceShare all;
    int64_t touched = 0;
    for (const SourceShare& s : split.sources) {
        all.bytes += s.bytes, all.held_out_bytes += s.held_out_bytes, all.blocks += s.blocks;
        touched += s.blocks > 0;
    }
    const double percent =
        100 * static_cast<double>(all.held_out_bytes) / static_cast<double>(std::max<int64_t>(1, all.bytes));
    return fmt::format("{} block{}, {:.1f} % of the text, from {} of {} source{}", all.blocks,
                       all.blocks == 1 ? "" : "s", percent, touched, split.sources.size(),
                       split.sources.size() == 1 ? "" : "s");
}

}  // namespace sieve
