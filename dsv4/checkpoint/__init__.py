"""Weights on disk: our own quantised shards, and plain safetensors."""
