"""Measurements against others: every figure is a ratio in one process, after the results were found equal."""
