"""Deterministic training data of nano's closed world: `build` prepares a folder, the streams read it."""

from dsv4._lazy import lazy
