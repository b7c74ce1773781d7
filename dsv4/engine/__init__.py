"""Decoding: sampling, constraints and the loop that joins them to the core."""
