"""Tiers of one model: quantised block by block, measured beside each other."""
