// A grid of axes under one title, as a PNG.
#pragma once

#include <string>
#include <vector>

#include "framework/plot/axes.h"

namespace sieve::plot {

class Figure {
  public:
    // Size in points of the whole picture; it has `scale` pixels per point.
    Figure(int rows, int columns, Size points, double scale = 2);

    std::string title;
    // Cells never asked for stay empty.
    Axes& at(int row, int column);
    // Makes the picture as large as plot areas of this size need, once all is in them.
    void fit_plots(Size plot);

    Canvas render() const;
    // Atomic: on an error the old file stays. Throws Error(bad_file) naming the path.
    void save(const std::string& path) const;

  private:
    struct Grid {
        std::vector<Insets> insets;  // of each cell; columns share left and right, rows top and bottom
        Size plot;                   // of every plot area
        Size around;                 // all that is not plot area
    };
    size_t index(int row, int column) const { return static_cast<size_t>(row * columns_ + column); }
    Grid grid_of(Size plot) const;  // with the insets that plot areas of this size need
    Grid measure() const;

    int rows_, columns_;
    Size size_;
    double scale_;
    std::vector<Axes> axes_;
    std::vector<char> used_;
};

}  // namespace sieve::plot
