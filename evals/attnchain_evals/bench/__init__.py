"""Benchmarks that last: methods × metrics × data, row by row into files, resumed where they stopped, reported in one page."""
