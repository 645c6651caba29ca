// The parts of which report.html is made. All text that comes in is escaped here, except `html` members.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sieve {

// A cell of a table. With a number it sorts by that, else by its text; a cell without either sorts last.
struct Cell {
    std::string text;
    std::optional<double> number = {};
    std::string style;  // a class of the page's style sheet: good, bad, changed, remark
};

struct Table {
    std::vector<std::string> columns;
    std::vector<std::vector<Cell>> rows;
};
// Its rows are sorted by a click on a column's head.
std::string table_html(const Table& table);

// A PNG, inlined. Throws a bad_file error when the file is not a whole PNG.
std::string picture_html(const std::string& path, const std::string& caption);

struct Tile {
    std::string title, value, remark;
};
std::string tiles_html(const std::vector<Tile>& tiles);

struct Section {
    std::string id, title, html;
};
// The whole document: it loads nothing from elsewhere. Sections without content are left out.
std::string page_html(const std::string& title, const std::string& introduction,
                      const std::vector<Section>& sections);

}  // namespace sieve
