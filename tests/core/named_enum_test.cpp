#include "framework/core/named_enum.h"

#include "framework/core/error.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

enum class Tree { oak = 3, maple = 7, elm = 1 };
enum class Nameless { one };

}  // namespace

template <>
inline constexpr auto sieve::enum_names<Tree> =
    std::to_array<NamedValue<Tree>>({{Tree::oak, "oak"}, {Tree::maple, "maple"}, {Tree::elm, "elm"}});

TEST_CASE("named enum: values and names, one table") {
    static_assert(NamedEnum<Tree> && !NamedEnum<Nameless> && !NamedEnum<int>);
    static_assert(std::string_view(name_of(Tree::maple)) == "maple");
    for (const auto& [tree, name] : enum_names<Tree>) {
        CHECK(from_name<Tree>("tree", name) == tree);
        CHECK(name_of(tree) == std::string(name));
    }
    CHECK(!value_named<Tree>("Oak"));
    CHECK(names_of<Tree>() == std::vector<std::string>{"oak", "maple", "elm"});
    CHECK(from_names<Tree>("trees", "elm,oak,elm") == std::vector{Tree::elm, Tree::oak, Tree::elm});
    CHECK(list_of(std::vector{Tree::elm, Tree::oak}) == "elm,oak");
}

TEST_CASE("named enum: an unknown name lists what there is, and asks when one is surely meant") {
    check_error("tree: 'fir', want oak, maple or elm", [] { from_name<Tree>("tree", "fir"); });
    check_error("tree: 'mapel', want oak, maple or elm", [] { from_name<Tree>("tree", "mapel"); });
    check_error("tree: 'mapl', want oak, maple or elm, did you mean maple?",
                [] { from_name<Tree>("tree", "mapl"); });
    check_error("tree: '', want oak, maple or elm", [] { from_name<Tree>("tree", ""); });
    check_error("trees: 'oak,maplee', want a list of oak, maple and elm, did you mean maple?",
                [] { from_names<Tree>("trees", "oak,maplee"); });
    check_error("trees: 'oak,', want a list of oak, maple and elm",
                [] { from_names<Tree>("trees", "oak,"); });
    CHECK(wanted_name("abc", {"abd", "bb"}) == "abd or bb");
    CHECK(wanted_name("abcd", {"abce", "abcf"}) ==
          "abce or abcf");  // two are as near: neither is meant surely
    CHECK(nearest_name("d_modle", {"d_ff", "d_model"}) == "d_model");
    CHECK(nearest_name("colour", {"d_ff", "d_model"}).empty());
}
