"""Benchmarks of methods × metrics × data. Rows go to files one by one, and a stopped run continues."""
