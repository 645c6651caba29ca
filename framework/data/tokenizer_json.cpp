// tokenizer.json, both ways. The JSON library is included here and in json_lines.cpp alone.
#include <fmt/format.h>

#include <algorithm>
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
    void read_normalizer(const json& value);
    void read_pre_tokenizer(const json& value);
    void read_step(const json& value);
    SplitStep read_split(const json& value) const;
    void read_byte_level(const json& value);
    void read_vocabulary(const json& vocabulary);
    void read_added_tokens();
    void read_added_token(const json& token);
    void list_added_tokens();
    int64_t integer(const json& value) const;
    void set_token(int64_t id, std::string bytes, const std::string& name);
    void read_merges(const json& merges);
    void add_merge(size_t rank, const std::string& left, const std::string& right);
    void check_bytes(const json& model);

    const json& root_;
    const std::string& source_;
    Tokenizer tokenizer_;
    size_t most_tokens_ = 0;  // that the model can have
    int64_t highest_id_ = -1;
    std::vector<bool> given_;
    std::unordered_map<std::string, int32_t> ids_;   // by the name in the file
    std::unordered_map<std::string, size_t> added_;  // by the content: the place among the added tokens
    std::vector<std::string> moved_;  // added tokens that do not get the id that the file gives them
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

struct NamedBehavior {
    const char* name;
    SplitBehavior behavior;
};
constexpr NamedBehavior behaviors[] = {{"Removed", SplitBehavior::removed},
                                       {"Isolated", SplitBehavior::isolated},
                                       {"MergedWithPrevious", SplitBehavior::merged_with_previous},
                                       {"MergedWithNext", SplitBehavior::merged_with_next},
                                       {"Contiguous", SplitBehavior::contiguous}};
struct NamedForm {
    const char* name;
    NormalizationForm form;
};
constexpr NamedForm forms[] = {{"NFC", NormalizationForm::nfc}, {"NFKC", NormalizationForm::nfkc}};

// The parts of a value that may be a Sequence, and itself otherwise; Sequences in it are opened too.
void flatten(const json& value, const char* parts_key, std::vector<const json*>& parts) {
    if (type_of(value) != "Sequence") return parts.push_back(&value);
    for (const json& part : value.at(parts_key)) flatten(part, parts_key, parts);
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
    if (is_null(root_, "decoder") || type_of(root_["decoder"]) == "ByteLevel") return;
    refuse("the decoder " + type_of(root_["decoder"]) + " is not supported; only ByteLevel is");
}

void TokenizerJson::check_model(const json& model) const {
    // The first files had no type; a model with merges is BPE.
    const bool untyped = model.is_object() && !model.contains("type") && model.contains("merges");
    if (!untyped && type_of(model) != "BPE")
        refuse("the model " + type_of(model) + " is not supported; only BPE is");
    for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) {
        refuse_unless_off(model, key);
    }
}

void TokenizerJson::read_normalizer(const json& value) {
    std::vector<const json*> parts;
    flatten(value, "normalizers", parts);
    for (const json* part : parts) {
        const std::string type = type_of(*part);
        const auto* found = std::find_if(std::begin(forms), std::end(forms),
                                         [&](const NamedForm& f) { return f.name == type; });
        if (found == std::end(forms))
            refuse("the normalizer " + type +
                   " is not supported; only NFC and NFKC are, alone or in a Sequence");
        tokenizer_.normalizers_.push_back(found->form);
    }
}

void TokenizerJson::read_byte_level(const json& value) {
    tokenizer_.pre_tokenizer_.add_prefix_space = flag(value, "add_prefix_space", true);
    tokenizer_.pre_tokenizer_.use_regex = flag(value, "use_regex", true);
}

SplitStep TokenizerJson::read_split(const json& value) const {
    const json& pattern = value.at("pattern");
    const bool is_regex = pattern.contains("Regex");
    const std::string name = value.at("behavior").get<std::string>();
    const auto* found = std::find_if(std::begin(behaviors), std::end(behaviors),
                                     [&](const NamedBehavior& b) { return b.name == name; });
    if (found == std::end(behaviors))
        refuse(fmt::format("the behavior {:?} of a Split is unknown", shortened(name)));
    try {
        return {pattern.at(is_regex ? "Regex" : "String").get<std::string>(), is_regex, found->behavior,
                flag(value, "invert", false)};
    } catch (const Error& e) {
        refuse(std::string("Split: ") + e.what());
    }
}

void TokenizerJson::read_step(const json& value) {
    const std::string type = type_of(value);
    auto& steps = tokenizer_.pre_tokenizer_.steps;
    if (type == "Split")
        steps.emplace_back(read_split(value));
    else if (type == "Digits")
        steps.emplace_back(DigitsStep{flag(value, "individual_digits", false)});
    else
        refuse("the pre-tokenizer " + type +
               " is not supported; only Split and Digits are, in a Sequence that ends with ByteLevel");
}

void TokenizerJson::read_pre_tokenizer(const json& value) {
    std::vector<const json*> steps;
    flatten(value, "pretokenizers", steps);
    if (steps.empty() || type_of(*steps.back()) != "ByteLevel") {
        const std::string last = steps.empty() ? "an empty Sequence" : type_of(*steps.back());
        refuse("the pre-tokenizer " + last +
               " is not supported; want ByteLevel, alone or the last of a Sequence");
    }
    for (size_t i = 0; i + 1 < steps.size(); ++i) read_step(*steps[i]);
    read_byte_level(*steps.back());
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

void TokenizerJson::read_vocabulary(const json& vocabulary) {
    for (const auto& [name, id] : vocabulary.items()) {
        std::optional<std::string> bytes = from_byte_alphabet(name);
        if (!bytes && added_.contains(name)) bytes = name;  // no model makes it: it stands for its own text
        if (!bytes) refuse(fmt::format("token {:?} is not in the byte-level alphabet", shortened(name)));
        set_token(integer(id), std::move(*bytes), name);
    }
    for (int64_t id = 0; id <= highest_id_; ++id) {
        const auto slot = static_cast<size_t>(id);
        if (slot >= given_.size() || !given_[slot])
            refuse(fmt::format("no token has the id {}, though ids go up to {}", id, highest_id_));
    }
    tokenizer_.model_size_ = tokenizer_.tokens_.size();
}

void TokenizerJson::list_added_tokens() {
    for (const json& token : root_["added_tokens"]) {
        const std::string content = token.at("content").get<std::string>();
        if (content.empty()) refuse("an added token is empty");
        added_.emplace(content, added_.size());
    }
}

// The last of several entries with one content counts.
void TokenizerJson::read_added_token(const json& token) {
    AddedToken added{.content = token.at("content").get<std::string>(),
                     .special = flag(token, "special", false),
                     .normalized = flag(token, "normalized", false),
                     .single_word = flag(token, "single_word", false),
                     .lstrip = flag(token, "lstrip", false),
                     .rstrip = flag(token, "rstrip", false)};
    const auto [id, is_new] = ids_.emplace(added.content, tokenizer_.vocab_size());
    if (is_new) tokenizer_.tokens_.push_back(added.content);
    added.id = id->second;
    if (integer(token.at("id")) != added.id) moved_.push_back(added.content);
    tokenizer_.added_[added_.at(added.content)] = std::move(added);
}

void TokenizerJson::read_added_tokens() {
    tokenizer_.added_.resize(added_.size());
    for (const json& token : root_["added_tokens"]) read_added_token(token);
    std::sort(tokenizer_.added_.begin(), tokenizer_.added_.end(),
              [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
    if (moved_.empty()) return;
    tokenizer_.notes_.push_back(
        fmt::format("{}: {} of its added tokens get other ids than it says, the first {:?} the id {}: added "
                    "tokens get the id "
                    "that the model's vocabulary has for them, or the next one behind all others, as the "
                    "tokenizers package does",
                    source_, moved_.size(), shortened(moved_[0]), ids_[moved_[0]]));
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
    if (!is_null(root_, "normalizer")) read_normalizer(root_["normalizer"]);
    most_tokens_ = model.at("vocab").size();
    const bool has_added = !is_null(root_, "added_tokens");
    if (has_added) list_added_tokens();
    read_vocabulary(model.at("vocab"));
    read_merges(model.at("merges"));
    if (has_added) read_added_tokens();
    tokenizer_.ignore_merges_ = flag(model, "ignore_merges", false);
    try {
        tokenizer_.index();
    } catch (const Error& e) {
        refuse(e.what());
    }
    check_bytes(model);
    return std::move(tokenizer_);
}

namespace {

json write_step(const DigitsStep& step) {
    return {{"type", "Digits"}, {"individual_digits", step.individual}};
}

json write_step(const SplitStep& step) {
    const auto* named = std::find_if(std::begin(behaviors), std::end(behaviors),
                                     [&](const NamedBehavior& b) { return b.behavior == step.behavior; });
    return {{"type", "Split"},
            {"pattern", {{step.is_regex ? "Regex" : "String", step.pattern}}},
            {"behavior", named->name},
            {"invert", step.invert}};
}

json write_pre_tokenizer(const PreTokenizer& pre) {
    json byte_level = {{"type", "ByteLevel"},
                       {"add_prefix_space", pre.add_prefix_space},
                       {"trim_offsets", true},
                       {"use_regex", pre.use_regex}};
    if (pre.steps.empty()) return byte_level;
    json steps = json::array();
    for (const auto& step : pre.steps)
        steps.push_back(std::visit([](const auto& any) { return write_step(any); }, step));
    steps.push_back(std::move(byte_level));
    return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

json write_normalizers(const std::vector<NormalizationForm>& normalizers) {
    json parts = json::array();
    for (const NormalizationForm form : normalizers) {
        const auto* named = std::find_if(std::begin(forms), std::end(forms),
                                         [&](const NamedForm& f) { return f.form == form; });
        parts.push_back({{"type", named->name}});
    }
    if (parts.empty()) return nullptr;
    if (parts.size() == 1) return parts[0];
    return {{"type", "Sequence"}, {"normalizers", std::move(parts)}};
}

// By their ids: the order decides the ids of those that the model does not have.
json write_added_tokens(const std::vector<AddedToken>& tokens) {
    json added = json::array();
    for (const AddedToken& token : tokens)
        added.push_back({{"id", token.id},
                         {"content", token.content},
                         {"single_word", token.single_word},
                         {"lstrip", token.lstrip},
                         {"rstrip", token.rstrip},
                         {"normalized", token.normalized},
                         {"special", token.special}});
    return added;
}

// "a b", which all versions of the tokenizers package read, unless a name has a space in it.
json write_merges(const std::vector<Tokenizer::Merge>& merges, const std::vector<std::string>& names) {
    const auto name = [&](int32_t id) -> const std::string& { return names[static_cast<size_t>(id)]; };
    const bool pairs = std::any_of(merges.begin(), merges.end(), [&](const Tokenizer::Merge& m) {
        return (name(m.left) + name(m.right)).find(' ') != std::string::npos;
    });
    json written = json::array();
    for (const Tokenizer::Merge& m : merges) {
        if (pairs)
            written.push_back(json::array({name(m.left), name(m.right)}));
        else
            written.push_back(name(m.left) + " " + name(m.right));
    }
    return written;
}

}  // namespace

json TokenizerJson::write(const Tokenizer& tokenizer) {
    std::vector<std::string> names;  // of the model's tokens in the file
    for (size_t id = 0; id < tokenizer.model_size_; ++id)
        names.push_back(to_byte_alphabet(tokenizer.tokens_[id]));
    for (const AddedToken& token : tokenizer.added_)
        if (static_cast<size_t>(token.id) < names.size())
            names[static_cast<size_t>(token.id)] = token.content;
    const auto name = [&](int32_t id) { return names[static_cast<size_t>(id)]; };
    json vocabulary = json::object();
    auto& entries = vocabulary.get_ref<json::object_t&>();  // appended to directly: [] would search
    for (size_t id = 0; id < names.size(); ++id) entries.emplace_back(names[id], id);
    json unknown;  // null
    if (tokenizer.unknown_id_ >= 0) unknown = name(tokenizer.unknown_id_);
    const json byte_level = {
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
    return {{"version", "1.0"},
            {"truncation", nullptr},
            {"padding", nullptr},
            {"added_tokens", write_added_tokens(tokenizer.added_)},
            {"normalizer", write_normalizers(tokenizer.normalizers_)},
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
              {"merges", write_merges(tokenizer.merges_, names)}}}};
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
