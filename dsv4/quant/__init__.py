"""Weight-only quantisation: small integers in groups, one scale a group."""
