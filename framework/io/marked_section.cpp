#include "framework/io/marked_section.h"

#include <fmt/format.h>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"

namespace sieve {
namespace {

struct Section {
    size_t begin, end;
};

Section find_section(const std::string& page, const std::string& path, const std::string& name) {
    const std::string opening = fmt::format("<!-- {} -->\n", name),
                      closing = fmt::format("<!-- /{} -->", name);
    const size_t start = page.find(opening);
    const size_t end = start == std::string::npos ? start : page.find(closing, start);
    if (end == std::string::npos)
        fail_bad_file(fmt::format("{}: want a line <!-- {} --> and after it a line {}", path, name, closing));
    return {start + opening.size(), end};
}

}  // namespace

std::string marked_section(const std::string& path, const std::string& name) {
    const std::string page = read_file(path);
    const Section section = find_section(page, path, name);
    return page.substr(section.begin, section.end - section.begin);
}

void replace_marked_section(const std::string& path, const std::string& name, const std::string& text) {
    const std::string page = read_file(path);
    const Section section = find_section(page, path, name);
    write_file_atomic(path, page.substr(0, section.begin) + text + page.substr(section.end));
}

}  // namespace sieve
