// The table of selectors: the one place that knows them all.
#include "framework/core/error.h"
#include "framework/nn/selector.h"
#include "framework/nn/selectors/indexer.h"
#include "framework/nn/selectors/random.h"
#include "framework/nn/selectors/recent.h"
#include "framework/nn/selectors/sink_recent.h"

namespace sieve {

const std::vector<SelectorKind>& selector_kinds() {
    static const std::vector<SelectorKind> kinds{
        {"indexer", "the keys that a lightning indexer scores highest", true, make_indexer},
        {"recent", "the last keys", false, make_recent},
        {"sink_recent", "the first and the last keys", false, make_sink_recent},
        {"random", "keys by lot", false, make_random},
    };
    return kinds;
}

const SelectorKind& selector_kind(const std::string& name) {
    std::string names;
    for (const SelectorKind& kind : selector_kinds()) {
        if (name == kind.name) return kind;
        names += (names.empty() ? "" : ", ") + std::string(kind.name);
    }
    fail_usage("selector: '" + name + "', want one of " + names);
}

}  // namespace sieve
