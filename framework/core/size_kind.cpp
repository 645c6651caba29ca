#include "framework/core/size_kind.h"

namespace sieve {

const char* name_of(SizeKind size) {
    switch (size) {
        case SizeKind::none:
            break;
        case SizeKind::batch:
            return "the batch";
        case SizeKind::length:
            return "the length of the sequences";
        case SizeKind::width:
            return "the width of the model";
        case SizeKind::layers:
            return "the number of layers";
        case SizeKind::experts:
            return "the number of experts";
        case SizeKind::expert_width:
            return "the width of the experts";
        case SizeKind::vocabulary:
            return "the vocabulary";
        case SizeKind::selected_keys:
            return "the number of selected keys";
        case SizeKind::text:
            return "the amount of text";
    }
    return "nothing";
}

}  // namespace sieve
