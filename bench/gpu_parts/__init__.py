"""Parts of bench/gpu.py: checks and measurements of the fast paths on one accelerator, and the page made of them."""
