// Byte-level byte-pair encoding (Sennrich et al. 2016; the byte alphabet of GPT-2, Radford et al. 2019).
//
//   text -> added tokens cut out -> words (pretokenizer.h) -> bytes -> merge, again and again, the
//   neighbouring pair that was learnt first -> ids
//
// Files are Hugging Face tokenizer.json: what save() writes, the `tokenizers` package loads and encodes
// alike, and what it writes for byte-level BPE, load() reads. What load() does not support it refuses by
// name: normalizers, other models than BPE, other pre-tokenizers than ByteLevel and Digits + ByteLevel,
// dropout, byte fallback, sub-word prefixes and suffixes, added tokens with lstrip, rstrip or single_word.
// The post-processor is not applied (it only puts tokens around a text): encode() equals `encode(text,
// add_special_tokens=False).ids`.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "framework/data/pretokenizer.h"

namespace sieve {

inline constexpr std::string_view end_of_text = "<|endoftext|>";

// Called now and then while training, and at the end of its two parts: "counting the words" (done: bytes) and
// "making the tokens" (those made, and those wanted).
using TokenizerProgress = std::function<void(const char* what, int64_t done, int64_t total)>;

class Tokenizer {
  public:
    struct Merge {
        int32_t left, right, result;
        bool operator==(const Merge&) const = default;
    };
    struct AddedToken {  // found in the text before anything else
        int32_t id;
        std::string content;
        bool special;
        bool operator==(const AddedToken&) const = default;
    };

    // Learns a vocabulary of `vocab_size` >= 257 tokens: <|endoftext|> is id 0, then the 256 bytes in the
    // order of their printable letters, then the merges. The pair with the highest count is merged next,
    // among equals the one with the lower ids; pairs seen once are left alone, so a short text may give fewer
    // tokens. This is BpeTrainer(min_frequency=2) of the `tokenizers` package, merge by merge.
    static Tokenizer train(std::span<const std::string_view> texts, int vocab_size,
                           const TokenizerProgress& progress = {});
    static Tokenizer train(std::string_view text, int vocab_size, const TokenizerProgress& progress = {});

    static Tokenizer load(const std::filesystem::path& path);
    // `source` names the text in errors.
    static Tokenizer from_json(std::string_view json, const std::string& source);
    void save(const std::filesystem::path& path) const;
    std::string to_json() const;

    std::vector<int32_t> encode(std::string_view text) const;
    // Stops as soon as `max_tokens` are there (0: no limit). `progress` is called about once a mebibyte with
    // the bytes of the text that are done.
    void encode_append(std::string_view text, std::vector<int32_t>& ids, int64_t max_tokens = 0,
                       const std::function<void(int64_t bytes)>& progress = {}) const;
    // The bytes of the tokens joined; not always valid UTF-8, as a token may end inside a character.
    std::string decode(std::span<const int32_t> ids) const;

    int vocab_size() const { return static_cast<int>(tokens_.size()); }
    const std::string& token_bytes(int id) const;
    // The bytes of text that the tokens stand for. <|endoftext|> stands for none: it says that a document
    // ends.
    int64_t text_bytes(std::span<const int32_t> ids) const;
    // For people, e.g. on a plot's axis: a space as U+00B7, \n and \t as such, other control and stray bytes
    // as \xHH.
    std::string token_text(int id) const;
    // The id of an added token such as <|endoftext|>; -1 when there is none.
    int32_t added_token_id(std::string_view content) const;
    std::span<const Merge> merges() const { return merges_; }
    // Of everything that decides how text is encoded.
    uint64_t hash() const;

  private:
    friend class TokenizerJson;  // tokenizer_json.cpp
    class Words;                 // the ids of words met before, for one call of encode

    void index();  // fills what is derived from tokens_, merges_ and added_
    void encode_piece(std::string_view piece, Words& words, std::vector<int32_t>& ids, size_t limit) const;
    void encode_plain(std::string_view text, Words& words, std::vector<int32_t>& ids, size_t limit) const;
    void encode_word(std::string_view word, std::vector<int32_t>& ids) const;
    const AddedToken* added_token_at(std::string_view text, size_t at) const;
    int32_t byte_id(unsigned char byte) const;

    std::vector<std::string> tokens_;  // by id: the bytes of a token
    std::vector<Merge> merges_;        // by rank
    std::vector<AddedToken> added_;
    PreTokenizer pre_tokenizer_;
    bool ignore_merges_ = false;  // a word that is a token is that token, whatever the merges say
    int32_t unknown_id_ = -1;     // for bytes that are no token

    std::array<int32_t, 256> byte_ids_{};               // -1: no such token
    std::array<bool, 256> starts_added_{};              // some added token starts with this byte
    std::unordered_map<uint64_t, int32_t> merge_rank_;  // pair -> index in merges_
    std::unordered_map<std::string, int32_t> id_of_;    // only with ignore_merges
};

}  // namespace sieve
