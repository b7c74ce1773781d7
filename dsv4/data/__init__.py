"""Training data of nano's closed world: `build` makes a folder from the sources, streams read it; all by seed."""
