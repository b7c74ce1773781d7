"""Operators of the language core: each a reference in plain torch, some with a faster path beside it."""
