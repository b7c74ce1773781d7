"""Judges: each takes a model and a data folder and counts what is exactly right."""
