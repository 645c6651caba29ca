// Byte-level byte-pair encoding (Sennrich et al. 2016; the byte alphabet of GPT-2, Radford et al. 2019).
//
//   text -> added tokens cut out (added_tokens.h) -> normalized (normalizer.h) -> added tokens that are
//   found in normalized text cut out -> words (pretokenizer.h) -> bytes -> merge, again and again, the
//   neighbouring pair that was learnt first -> ids
//
// Files are Hugging Face tokenizer.json: what save() writes, the `tokenizers` package loads and encodes
// alike, and what it writes for byte-level BPE, load() reads. What load() does not support it refuses by
// name: normalizers other than NFC and NFKC, other models than BPE, pre-tokenizers other than Split, Digits
// and ByteLevel, or without ByteLevel at the end, other decoders than ByteLevel, dropout, byte fallback,
// sub-word prefixes and suffixes. Added tokens that are not in the model's vocabulary are numbered on behind
// it in the order of the file, as that package does, whatever ids the file gives them: notes() says so.
// Truncation, padding and the post-processor (it only puts tokens around a text) are not applied: encode()
// equals `encode(text, add_special_tokens=False).ids`.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "framework/data/added_tokens.h"
#include "framework/data/merge_table.h"
#include "framework/data/normalizer.h"
#include "framework/data/pretokenizer.h"

namespace sieve {

inline constexpr std::string_view end_of_text = "<|endoftext|>";

// Called now and then while training, and at the end of its two parts: "counting the words" (done: bytes) and
// "making the tokens" (those made, and those wanted).
using TokenizerProgress = std::function<void(const char* what, int64_t done, int64_t total)>;

class Tokenizer {
    class Words;  // the ids of words met before

  public:
    struct Merge {
        int32_t left, right, result;
        bool operator==(const Merge&) const = default;
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
    // The bytes of the tokens joined; not always valid UTF-8, as a token may end inside a character.
    std::string decode(std::span<const int32_t> ids) const;

    // Encodes one text after the other, and remembers the words that it met, within bounds. The tokenizer must outlive it;
    // one thread uses it at a time.
    class Encoder {
      public:
        explicit Encoder(const Tokenizer& tokenizer);
        ~Encoder();
        Encoder(Encoder&&) noexcept;
        Encoder& operator=(Encoder&&) = delete;

        // Appends the ids of a text, and stops as soon as `max_tokens` are there (0: no limit). `passed` is called about
        // once a mebibyte with the bytes of the text that are done, and may take away the ids that are there.
        void append(std::string_view text, std::vector<int32_t>& ids, int64_t max_tokens = 0,
                    const std::function<void(int64_t bytes)>& passed = {});

      private:
        const Tokenizer* tokenizer_;
        std::unique_ptr<Words> words_;
    };
    // Whether a text may be cut at word_border() (pretokenizer.h): its parts then have the ids of the whole.
    bool may_be_cut_at_words() const;

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
    std::span<const AddedToken> added_tokens() const { return added_; }
    // What in the file was read otherwise than it says; a line each.
    std::span<const std::string> notes() const { return notes_; }
    // Of everything that decides how text is encoded.
    uint64_t hash() const;

  private:
    friend class TokenizerJson;  // tokenizer_json.cpp

    void index();  // fills what is derived from the members up to notes_
    // These return whether more ids are wanted.
    bool encode_raw(std::string_view text, Words& words) const;
    bool encode_normalized(std::string_view text, Words& words) const;
    bool encode_piece(std::string_view piece, Words& words) const;
    void encode_word(std::string_view word, std::vector<int32_t>& ids) const;
    std::string normalize(std::string_view text) const;
    int32_t byte_id(unsigned char byte) const;

    std::vector<std::string> tokens_;  // by id: the bytes of a token
    size_t model_size_ = 0;            // tokens that the model has; the rest are added tokens alone
    std::vector<Merge> merges_;        // by rank
    std::vector<AddedToken> added_;
    std::vector<NormalizationForm> normalizers_;
    PreTokenizer pre_tokenizer_;
    bool ignore_merges_ = false;  // a word that is a token is that token, whatever the merges say
    int32_t unknown_id_ = -1;     // for bytes that are no token
    std::vector<std::string> notes_;

    std::array<int32_t, 256> byte_ids_{};  // -1: no such token
    AddedTokenFinder found_raw_, found_normalized_;
    MergeTable merge_ranks_;                          // indices in merges_
    std::unordered_map<std::string, int32_t> id_of_;  // only with ignore_merges
};

}  // namespace sieve
