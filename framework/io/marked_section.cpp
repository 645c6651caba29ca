#include "framework/io/marked_section.h"

#include <fmt/format.h>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"

namespace sieve {

void replace_marked_section(const std::string& path, const std::string& name, const std::string& text) {
    const std::string page = read_file(path);
    const std::string opening = fmt::format("<!-- {} -->\n", name),
                      closing = fmt::format("<!-- /{} -->", name);
    const size_t start = page.find(opening);
    const size_t end = start == std::string::npos ? start : page.find(closing, start);
    if (end == std::string::npos)
        fail_bad_file(fmt::format("{}: want a line <!-- {} --> and after it a line {}", path, name, closing));
    write_file_atomic(path, page.substr(0, start + opening.size()) + text + page.substr(end));
}

}  // namespace sieve
