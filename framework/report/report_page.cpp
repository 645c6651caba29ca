#include "framework/report/report_page.h"

#include <fmt/format.h>

#include <cmath>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/html.h"
#include "framework/plot/png.h"

namespace sieve {
namespace {

constexpr const char* style_sheet = R"css(
:root { --ink: #1d2733; --muted: #5d6b7a; --line: #dfe4ea; --paper: #fff; --shade: #f5f7f9; --accent: #1f77b4;
  --good: #1b7a3d; --bad: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 1200px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 8px; }
h2 { font-size: 1.25rem; margin: 40px 0 12px; padding-top: 8px; }
p { margin: 0 0 12px; overflow-wrap: anywhere; }
.muted, footer { color: var(--muted); font-size: 0.9rem; }
nav { position: sticky; top: 0; z-index: 1; background: var(--paper); border-bottom: 1px solid var(--line); }
nav ul { max-width: 1200px; margin: 0 auto; padding: 8px 20px; display: flex; gap: 4px 18px; list-style: none;
  overflow-x: auto; white-space: nowrap; }
nav a { color: var(--accent); text-decoration: none; }
nav a:hover { text-decoration: underline; }
section { scroll-margin-top: 40px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 12px;
  margin: 16px 0; }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; background: var(--shade); }
.tile b { display: block; font-size: 1.45rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: var(--muted); font-size: 0.9rem; }
.scroll { overflow-x: auto; margin: 0 0 16px; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 12px; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td { min-width: 4.5em; max-width: 40em; overflow-wrap: break-word; }
th { background: var(--shade); max-width: 12em; vertical-align: bottom; }
td.number, th.number { text-align: right; }
td.number { white-space: nowrap; }
tbody tr:hover { background: var(--shade); }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible, .frame:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
th button::after { content: "\2195"; color: #a9b4c0; margin-left: 5px; }
th[aria-sort=ascending] button::after { content: "\2191"; color: var(--accent); }
th[aria-sort=descending] button::after { content: "\2193"; color: var(--accent); }
td.good { color: var(--good); font-weight: 600; }
td.bad { color: var(--bad); font-weight: 600; }
td.remark { min-width: 17em; }
td.changed { background: #fff4d6; }
figure { margin: 0 0 24px; }
figcaption { color: var(--muted); font-size: 0.9rem; margin-top: 4px; }
figcaption::after { content: " (click the picture for its full size)"; }
.frame { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; cursor: zoom-in; }
.frame img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.frame.full { cursor: zoom-out; }
.frame.full img { max-width: none; }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 6px; padding: 12px 14px;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.88rem; }
details > summary { cursor: pointer; margin-bottom: 8px; color: var(--accent); }
.notice { border-left: 4px solid #d9a400; background: #fff8e1; padding: 10px 14px; margin: 0 0 16px; }
.notice ul { margin: 6px 0 0; padding-left: 20px; }
.notice li { overflow-wrap: anywhere; }
footer { padding: 24px 20px 40px; }
@media (max-width: 700px) {
  header, main { padding-left: 14px; padding-right: 14px; }
  h1 { font-size: 1.35rem; }
  table { font-size: 0.85rem; }
  th, td { padding: 5px 6px; }
  td { min-width: 3em; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .tile b { font-size: 1.15rem; }
}
@media print { nav { display: none; } }
)css";

// Rows go by the data-value of a cell where both have one, else by text; empty cells stay last either way.
constexpr const char* script = R"js(
const valueOf = cell => 'value' in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
const isEmpty = value => value === '' || value === '–';
function compare(a, b, sign) {
  if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b);
  if (typeof a === 'number' && typeof b === 'number') return sign * (a - b);
  return sign * String(a).localeCompare(String(b), 'en', { numeric: true });
}
function sortBy(table, column, head) {
  const sign = head.getAttribute('aria-sort') === 'ascending' ? -1 : 1;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending');
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => compare(valueOf(a.cells[column]), valueOf(b.cells[column]), sign));
  table.tBodies[0].append(...rows);
}
for (const table of document.querySelectorAll('table'))
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.title = 'sort by this column';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => sortBy(table, column, head));
  });
for (const frame of document.querySelectorAll('.frame')) {
  const toggle = () => frame.classList.toggle('full');
  frame.tabIndex = 0;
  frame.addEventListener('click', toggle);
  frame.addEventListener('keydown', event => { if (event.key === 'Enter') toggle(); });
}
)js";

bool is_number_column(const Table& table, size_t column) {
    for (const auto& row : table.rows)
        if (row[column].number) return true;
    return false;
}

// As the page's script reads it.
std::string script_number(double value) {
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return fmt::format("{}", value);
}

std::string cell_html(const Cell& cell, bool in_number_column) {
    std::string classes = in_number_column ? "number" : "";
    if (!cell.style.empty()) classes += (classes.empty() ? "" : " ") + cell.style;
    return fmt::format("<td{}{}>{}</td>", classes.empty() ? "" : fmt::format(" class=\"{}\"", classes),
                       cell.number ? fmt::format(" data-value=\"{}\"", script_number(*cell.number)) : "",
                       escape_html(cell.text));
}

}  // namespace

std::string table_html(const Table& table) {
    std::string html = "<div class=\"scroll\"><table>\n<thead><tr>";
    for (size_t c = 0; c < table.columns.size(); ++c)
        html +=
            fmt::format("<th scope=\"col\"{}>{}</th>", is_number_column(table, c) ? " class=\"number\"" : "",
                        escape_html(table.columns[c]));
    html += "</tr></thead>\n<tbody>\n";
    for (const auto& row : table.rows) {
        html += "<tr>";
        for (size_t c = 0; c < row.size(); ++c) html += cell_html(row[c], is_number_column(table, c));
        html += "</tr>\n";
    }
    return html + "</tbody>\n</table></div>\n";
}

std::string picture_html(const std::string& path, const std::string& caption) {
    const std::string bytes = read_file(path);
    const std::optional<plot::PngSize> size = plot::png_size(bytes);
    if (!size) fail_bad_file(path + ": not a whole PNG; draw it again or remove it");
    // Two pixels of a figure are one of the page.
    return fmt::format(
        "<figure><div class=\"frame\"><img src=\"data:image/png;base64,{}\" width=\"{}\" height=\"{}\" "
        "alt=\"{}\"></div>\n<figcaption>{}</figcaption></figure>\n",
        base64(bytes), size->width / 2, size->height / 2, escape_html(caption), escape_html(caption));
}

std::string tiles_html(const std::vector<Tile>& tiles) {
    std::string html = "<div class=\"tiles\">\n";
    for (const Tile& tile : tiles)
        html += fmt::format("<div class=\"tile\"><span>{}</span><b>{}</b><span>{}</span></div>\n",
                            escape_html(tile.title), escape_html(tile.value), escape_html(tile.remark));
    return html + "</div>\n";
}

std::string page_html(const std::string& title, const std::string& introduction,
                      const std::vector<Section>& sections) {
    std::string links, body;
    for (const Section& section : sections) {
        if (section.html.empty()) continue;
        links += fmt::format("<li><a href=\"#{}\">{}</a></li>", section.id, escape_html(section.title));
        body += fmt::format("<section id=\"{}\"><h2>{}</h2>\n{}</section>\n", section.id,
                            escape_html(section.title), section.html);
    }
    // The policy lets nothing in from outside, whatever a text of the page may hold.
    return fmt::format(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n<header>\n<h1>{}</h1>\n{}</header>\n"
        "<nav><ul>{}</ul></nav>\n<main>\n{}</main>\n"
        "<footer>Made by Sieve from the JSON and PNG files of a results folder.</footer>\n"
        "<script>{}</script>\n</body>\n</html>\n",
        escape_html(title), style_sheet, escape_html(title), introduction, links, body, script);
}

}  // namespace sieve
