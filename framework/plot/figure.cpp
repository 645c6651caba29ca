#include "framework/plot/figure.h"

#include <fmt/format.h>

#include "framework/core/error.h"

namespace sieve::plot {
namespace {

constexpr double border = 10, gap = 14, title_size = 13;

double title_height(const std::string& title) {
    return title.empty() ? 0 : measure_text(title, title_size).height + 12;
}

}  // namespace

Figure::Figure(int rows, int columns, Size points, double scale)
    : rows_(rows), columns_(columns), size_(points), scale_(scale) {
    if (rows < 1 || columns < 1) fail(fmt::format("figure: {} x {} panels", rows, columns));
    axes_.resize(static_cast<size_t>(rows * columns));
    used_.resize(axes_.size(), 0);
}

Axes& Figure::at(int row, int column) {
    if (row < 0 || row >= rows_ || column < 0 || column >= columns_)
        fail(fmt::format("figure: panel ({}, {}) of {} x {}", row, column, rows_, columns_));
    used_[index(row, column)] = 1;
    return axes_[index(row, column)];
}

Figure::Grid Figure::grid_of(Size plot) const {
    std::vector<Insets> columns(static_cast<size_t>(columns_)), rows(static_cast<size_t>(rows_));
    for (int r = 0; r < rows_; ++r)
        for (int c = 0; c < columns_; ++c) {
            if (!used_[index(r, c)]) continue;
            const Insets in = axes_[index(r, c)].insets(plot);
            Insets& column = columns[static_cast<size_t>(c)];
            Insets& row = rows[static_cast<size_t>(r)];
            column.left = std::max(column.left, in.left), column.right = std::max(column.right, in.right);
            row.top = std::max(row.top, in.top), row.bottom = std::max(row.bottom, in.bottom);
        }
    Grid grid{std::vector<Insets>(axes_.size()), plot, {}};
    for (int r = 0; r < rows_; ++r)
        for (int c = 0; c < columns_; ++c) {
            const Insets &column = columns[static_cast<size_t>(c)], &row = rows[static_cast<size_t>(r)];
            grid.insets[index(r, c)] = {column.left, row.top, column.right, row.bottom};
        }
    grid.around = {2 * border + gap * (columns_ - 1), 2 * border + gap * (rows_ - 1) + title_height(title)};
    for (const Insets& in : columns) grid.around.width += in.left + in.right;
    for (const Insets& in : rows) grid.around.height += in.top + in.bottom;
    return grid;
}

// The space that labels need depends on the ticks, and these on the size of the plot areas: a few rounds
// settle it.
Figure::Grid Figure::measure() const {
    Grid grid{.insets = {}, .plot = {size_.width / columns_, size_.height / rows_}, .around = {}};
    for (int round = 0; round < 4; ++round) {
        grid = grid_of(grid.plot);
        grid.plot = {std::max(20.0, (size_.width - grid.around.width) / columns_),
                     std::max(20.0, (size_.height - grid.around.height) / rows_)};
    }
    return grid;
}

void Figure::fit_plots(Size plot) {
    const Size around = grid_of(plot).around;
    const double title_width = measure_text(title, title_size).width + 2 * border;
    size_ = {std::max(title_width, around.width + plot.width * columns_),
             around.height + plot.height * rows_};
}

Canvas Figure::render() const {
    Canvas canvas(size_, scale_);
    const Grid grid = measure();
    draw_text(canvas, {size_.width / 2, border}, title,
              {.size = title_size, .h = HAlign::center, .v = VAlign::top});
    double y = border + title_height(title);
    for (int r = 0; r < rows_; ++r) {
        double x = border;
        y += grid.insets[index(r, 0)].top;
        for (int c = 0; c < columns_; ++c) {
            const Insets& in = grid.insets[index(r, c)];
            x += in.left;
            if (used_[index(r, c)])
                axes_[index(r, c)].draw(canvas, {x, y, x + grid.plot.width, y + grid.plot.height});
            x += grid.plot.width + in.right + gap;
        }
        y += grid.plot.height + grid.insets[index(r, 0)].bottom + gap;
    }
    return canvas;
}

void Figure::save(const std::string& path) const {
    render().save(path);
}

}  // namespace sieve::plot
