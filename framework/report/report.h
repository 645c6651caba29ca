// report.html: one page that shows a whole results folder, made from its JSON and PNG files alone. Pictures
// are inlined, tables sort by a click; the page needs no other file and no network.
#pragma once

#include <string>

namespace sieve {

// The page of a results folder (results.h). A file that is missing is named on the page, with the command
// that makes it. Throws a bad_file error when the folder holds no results at all, and for a file that is
// damaged or of another version.
std::string report_html(const std::string& results_dir);

// Writes the page as folder/report.html; returns that path.
std::string write_report(const std::string& results_dir, const std::string& folder);

}  // namespace sieve
