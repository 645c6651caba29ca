// tokenizer.json, both ways. The JSON library is included here and in json_lines.cpp alone.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/data/byte_alphabet.h"
#include "framework/data/tokenizer.h"
#include "framework/io/json_file.h"

namespace sieve {

using json = nlohmann::ordered_json;

class TokenizerJson {
  public:
    TokenizerJson(const json& root, const std::string& source) : root_(root), source_(source) {}
    Tokenizer read();
    static json write(const Tokenizer& tokenizer);

  private:
    [[noreturn]] void refuse(const std::string& what) const { fail_bad_file(source_ + ": " + what); }
    void refuse_unless_off(const json& object, const char* key) const;
    void check_surroundings() const;
    void check_model(const json& model) const;
    void read_pre_tokenizer(const json& value);
    void read_byte_level(const json& value);
    void read_digits(const json& value);
    void read_added_tokens();
    void read_vocabulary(const json& vocabulary);
    int64_t integer(const json& value) const;
    void set_token(int64_t id, std::string bytes, const std::string& name);
    void read_merges(const json& merges);
    void add_merge(size_t rank, const std::string& left, const std::string& right);
    void check_bytes(const json& model);

    const json& root_;
    const std::string& source_;
    Tokenizer tokenizer_;
    size_t most_tokens_ = 0;  // that the file can have
    int64_t highest_id_ = -1;
    std::vector<bool> given_;
    std::unordered_map<std::string, int32_t> ids_;  // by the name in the file
};

namespace {

std::string type_of(const json& value) {
    return value.is_object() && value.contains("type") ? value["type"].get<std::string>() : "without a type";
}

bool is_null(const json& object, const char* key) {
    return !object.contains(key) || object[key].is_null();
}

bool flag(const json& object, const char* key, bool otherwise) {
    return is_null(object, key) ? otherwise : object[key].get<bool>();
}

// A token's name in the file: an added token as it is, any other in the byte alphabet.
std::string name_of_token(const std::string& bytes, bool added) {
    return added ? bytes : to_byte_alphabet(bytes);
}

}  // namespace

void TokenizerJson::refuse_unless_off(const json& object, const char* key) const {
    if (is_null(object, key)) return;
    const json& value = object[key];
    if (value == false || value == 0.0 || value == json("")) return;
    refuse(fmt::format("\"{}\": {} is not supported", key, shown(value)));
}

void TokenizerJson::check_surroundings() const {
    if (!root_.is_object() || is_null(root_, "model")) refuse("not a tokenizer.json: it has no \"model\"");
    if (!is_null(root_, "normalizer")) {
        const json& normalizer = root_["normalizer"];
        const bool empty = type_of(normalizer) == "Sequence" && normalizer.at("normalizers").empty();
        if (!empty) refuse("the normalizer " + type_of(normalizer) + " is not supported; only none is");
    }
    if (is_null(root_, "decoder") || type_of(root_["decoder"]) == "ByteLevel") return;
    refuse("the decoder " + type_of(root_["decoder"]) + " is not supported; only ByteLevel is");
}

void TokenizerJson::check_model(const json& model) const {
    if (type_of(model) != "BPE") refuse("the model " + type_of(model) + " is not supported; only BPE is");
    for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) {
        refuse_unless_off(model, key);
    }
}

void TokenizerJson::read_byte_level(const json& value) {
    if (type_of(value) != "ByteLevel") {
        refuse("the pre-tokenizer " + type_of(value) +
               " is not supported; only ByteLevel is, alone or in a Sequence after Digits");
    }
    tokenizer_.pre_tokenizer_.add_prefix_space = flag(value, "add_prefix_space", true);
    tokenizer_.pre_tokenizer_.use_regex = flag(value, "use_regex", true);
}

void TokenizerJson::read_digits(const json& value) {
    const bool single = flag(value, "individual_digits", false);
    tokenizer_.pre_tokenizer_.digits = single ? Digits::single : Digits::runs;
}

void TokenizerJson::read_pre_tokenizer(const json& value) {
    if (type_of(value) != "Sequence") return read_byte_level(value);
    const json& steps = value.at("pretokenizers");
    const bool digits = steps.size() == 2 && type_of(steps[0]) == "Digits";
    if (steps.size() != 1 && !digits) {
        std::string names;
        for (const json& step : steps) names += (names.empty() ? "" : ", ") + type_of(step);
        refuse("the pre-tokenizer Sequence of " + names + " is not supported; only Digits, ByteLevel is");
    }
    if (digits) read_digits(steps[0]);
    read_byte_level(steps.back());
}

int64_t TokenizerJson::integer(const json& value) const {
    if (!value.is_number_integer()) refuse(fmt::format("an id is {}, want a whole number", shown(value)));
    return value.get<int64_t>();
}

void TokenizerJson::set_token(int64_t id, std::string bytes, const std::string& name) {
    constexpr int64_t most = 1 << 24;
    if (id < 0 || id >= most)
        refuse(fmt::format("token {:?} has the id {}, want 0 to {}", shortened(name), id, most - 1));
    const auto slot = static_cast<size_t>(id);
    highest_id_ = std::max(highest_id_, id);
    if (slot >= most_tokens_) return;  // then a lower id is missing, which is found when all are read
    if (slot >= given_.size()) {
        given_.resize(slot + 1);
        tokenizer_.tokens_.resize(slot + 1);
    }
    if (given_[slot] && tokenizer_.tokens_[slot] != bytes) {
        refuse(fmt::format("token {:?} has the id {}, which another token has too", shortened(name), id));
    }
    given_[slot] = true;
    tokenizer_.tokens_[slot] = std::move(bytes);
    ids_[name] = static_cast<int32_t>(id);
}

void TokenizerJson::read_added_tokens() {
    if (is_null(root_, "added_tokens")) return;
    for (const json& token : root_["added_tokens"]) {
        const std::string content = token.at("content").get<std::string>();
        if (content.empty()) refuse("an added token is empty");
        for (const char* key : {"lstrip", "rstrip", "single_word"}) refuse_unless_off(token, key);
        set_token(integer(token.at("id")), content, content);
        tokenizer_.added_.push_back({ids_[content], content, flag(token, "special", false)});
    }
}

void TokenizerJson::read_vocabulary(const json& vocabulary) {
    for (const auto& [name, id] : vocabulary.items()) {
        const bool added = ids_.contains(name);  // which has the added tokens so far, and each name here once
        std::optional<std::string> bytes = added ? name : from_byte_alphabet(name);
        if (!bytes) refuse(fmt::format("token {:?} is not in the byte-level alphabet", shortened(name)));
        set_token(integer(id), std::move(*bytes), name);
    }
    for (int64_t id = 0; id <= highest_id_; ++id) {
        const auto slot = static_cast<size_t>(id);
        if (slot >= given_.size() || !given_[slot])
            refuse(fmt::format("no token has the id {}, though ids go up to {}", id, highest_id_));
    }
}

void TokenizerJson::add_merge(size_t rank, const std::string& left, const std::string& right) {
    const auto id = [&](const std::string& name) {
        const auto found = ids_.find(name);
        if (found == ids_.end()) {
            refuse(
                fmt::format("merge {} ({:?} {:?}): {:?} is not in the vocabulary", rank, left, right, name));
        }
        return found->second;
    };
    tokenizer_.merges_.push_back({id(left), id(right), id(left + right)});
}

void TokenizerJson::read_merges(const json& merges) {
    for (size_t rank = 0; rank < merges.size(); ++rank) {
        const json& merge = merges[rank];
        if (merge.is_array() && merge.size() == 2) {
            add_merge(rank, merge[0].get<std::string>(), merge[1].get<std::string>());
            continue;
        }
        const std::string text = merge.is_string() ? merge.get<std::string>() : "";
        const size_t space = text.find(' ');
        if (space == std::string::npos) {
            refuse(fmt::format("merge {}: {} is neither \"a b\" nor [\"a\", \"b\"]", rank, shown(merge)));
        }
        add_merge(rank, text.substr(0, space), text.substr(space + 1));
    }
}

void TokenizerJson::check_bytes(const json& model) {
    if (!is_null(model, "unk_token")) {
        const auto found = ids_.find(model["unk_token"].get<std::string>());
        if (found != ids_.end()) tokenizer_.unknown_id_ = found->second;
    }
    const auto& bytes = tokenizer_.byte_ids_;
    const bool complete = std::find(bytes.begin(), bytes.end(), -1) == bytes.end();
    if (!complete && tokenizer_.unknown_id_ >= 0) refuse_unless_off(model, "fuse_unk");
}

Tokenizer TokenizerJson::read() {
    check_surroundings();
    const json& model = root_["model"];
    check_model(model);
    if (is_null(root_, "pre_tokenizer")) refuse("it has no pre-tokenizer; want ByteLevel");
    read_pre_tokenizer(root_["pre_tokenizer"]);
    most_tokens_ = model.at("vocab").size();
    if (!is_null(root_, "added_tokens")) most_tokens_ += root_["added_tokens"].size();
    read_added_tokens();
    read_vocabulary(model.at("vocab"));
    read_merges(model.at("merges"));
    tokenizer_.ignore_merges_ = flag(model, "ignore_merges", false);
    tokenizer_.index();
    check_bytes(model);
    return std::move(tokenizer_);
}

namespace {

json write_pre_tokenizer(const PreTokenizer& pre) {
    json byte_level = {{"type", "ByteLevel"},
                       {"add_prefix_space", pre.add_prefix_space},
                       {"trim_offsets", true},
                       {"use_regex", pre.use_regex}};
    if (pre.digits == Digits::with_regex) return byte_level;
    const json digits = {{"type", "Digits"}, {"individual_digits", pre.digits == Digits::single}};
    return {{"type", "Sequence"}, {"pretokenizers", json::array({digits, byte_level})}};
}

json write_added_token(const Tokenizer::AddedToken& token) {
    return {{"id", token.id},  {"content", token.content}, {"single_word", false},    {"lstrip", false},
            {"rstrip", false}, {"normalized", false},      {"special", token.special}};
}

}  // namespace

json TokenizerJson::write(const Tokenizer& tokenizer) {
    std::vector<std::string> names;
    std::vector<bool> is_added(tokenizer.tokens_.size(), false);
    for (const Tokenizer::AddedToken& token : tokenizer.added_)
        is_added[static_cast<size_t>(token.id)] = true;
    for (size_t id = 0; id < tokenizer.tokens_.size(); ++id)
        names.push_back(name_of_token(tokenizer.tokens_[id], is_added[id]));
    const auto name = [&](int32_t id) { return names[static_cast<size_t>(id)]; };
    json vocabulary = json::object(), merges = json::array();
    auto& entries = vocabulary.get_ref<json::object_t&>();  // appended to directly: [] would search
    for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) entries.emplace_back(name(id), id);
    for (const Tokenizer::Merge& m : tokenizer.merges_) merges.push_back(name(m.left) + " " + name(m.right));
    json added = json::array();
    for (const Tokenizer::AddedToken& token : tokenizer.added_) added.push_back(write_added_token(token));
    json unknown;  // null
    if (tokenizer.unknown_id_ >= 0) unknown = name(tokenizer.unknown_id_);
    const json byte_level = {
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
    return {{"version", "1.0"},
            {"truncation", nullptr},
            {"padding", nullptr},
            {"added_tokens", added},
            {"normalizer", nullptr},
            {"pre_tokenizer", write_pre_tokenizer(tokenizer.pre_tokenizer_)},
            {"post_processor", nullptr},
            {"decoder", byte_level},
            {"model",
             {{"type", "BPE"},
              {"dropout", nullptr},
              {"unk_token", unknown},
              {"continuing_subword_prefix", nullptr},
              {"end_of_word_suffix", nullptr},
              {"fuse_unk", false},
              {"byte_fallback", false},
              {"ignore_merges", tokenizer.ignore_merges_},
              {"vocab", vocabulary},
              {"merges", merges}}}};
}

std::string Tokenizer::to_json() const {
    return TokenizerJson::write(*this).dump(1) + "\n";
}

Tokenizer Tokenizer::from_json(std::string_view text, const std::string& source) {
    try {
        // A token takes far more memory than its letters do.
        MemoryBudget budget(8 * text.size(), source);
        const json root = parse_json(text, source, budget);
        return TokenizerJson(root, source).read();
    } catch (const json::exception& e) {
        fail_bad_file(source + ": not a tokenizer.json: " + json_reason(e.what()));
    }
}

}  // namespace sieve
