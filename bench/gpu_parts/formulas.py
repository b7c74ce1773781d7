"""How many bytes must move and how many operations must be done, by formula; a multiplication and an addition are two.

What a better program need not do is not counted: entries that nobody chose, products with masked places, copies.
Shape letters: N queries, S keys, K chosen, H heads, D entry size, V value size, I index heads, C index size.
"""

from __future__ import annotations

from typing import Any


def attention(queries: int, keys: int, heads: int, size: int, value: int | None = None) -> float:
    """Operations of softmax attention: scores and weighted sums; the softmax itself is not counted."""
    return 2.0 * queries * keys * heads * (size + (size if value is None else value))


def gathered_bytes(queries: int, chosen: int, heads: int, size: int) -> float:
    """Chosen entries read once a query, queries read, outputs written (bfloat16), places read (int64)."""
    return queries * (2.0 * chosen * size + 4.0 * heads * size + 8.0 * chosen)


def dense_bytes(rows: int, queries: int, keys: int, heads: int, size: int) -> float:
    """All entries of each row read once, queries read, outputs written; scores never leave the chip."""
    return rows * (2.0 * keys * size + 4.0 * queries * heads * size)


def scores(queries: int, keys: int, heads: int, size: int) -> float:
    """Operations of the indexer: products, ReLU and weight."""
    return 2.0 * queries * keys * heads * (size + 1)


def scores_bytes(rows: int, queries: int, keys: int, heads: int, size: int, width: int = 2) -> float:
    """Keys of `width` bytes a number read once a row, queries and weights read, float32 scores written."""
    return rows * (width * keys * size + queries * (2.0 * heads * size + 4.0 * heads + 4.0 * keys))


def experts(tokens: int, chosen: int, inner: int, shared: int, hidden: int, count: int) -> float:
    """Operations of the chosen and the shared gated units, three matrices each, and of the router."""
    return tokens * (6.0 * hidden * (chosen * inner + shared) + 2.0 * hidden * count)


def experts_bytes(tokens: int, chosen: int, inner: int, shared: int, hidden: int, count: int) -> float:
    """Weights of the experts that some token may choose (at most all), read once, and activations in and out."""
    met = min(count, tokens * chosen)
    return 2.0 * 3 * hidden * (met * inner + shared) + 4.0 * tokens * hidden


def eyes(config: Any, side: int) -> float:
    """Operations of one view of a DeepEncoder: SAM, two convolutions, CLIP, projector."""
    places, cells = (side // 16) ** 2, (side // 64) ** 2
    width, neck, middle, clip = config.sam_width, config.neck, config.middle, config.clip_width
    full = len(config.sam_global)
    windowed = config.sam_layers - full
    total = 2.0 * places * 3 * 16 * 16 * width
    total += config.sam_layers * 24.0 * places * width**2
    total += 4.0 * places * width * (windowed * config.sam_window**2 + full * places)
    total += 2.0 * places * (width * neck + 9 * neck**2)
    total += 2.0 * 9 * (4 * cells * neck * middle + cells * middle * clip)
    tokens = cells + 1
    total += config.clip_layers * (24.0 * tokens * clip**2 + 4.0 * tokens**2 * clip)
    return total + 2.0 * cells * 2 * clip * config.out_dim


def head(config: Any, rows: int, frames: int, side: int, condition: int) -> float:
    """Operations of one step of the joint head for `rows` rows of `frames` frames and `condition` tokens."""
    width, inner, patch = config.heads * config.head_dim, config.ffn_dim, config.patch
    places = frames * (side // patch) ** 2
    block = 2.0 * places * (6 * width**2 + 2 * width * inner) + 4.0 * condition * width**2
    block += 4.0 * width * places * (places + condition)
    ends = 2.0 * places * width * (6 + 3) * patch**2 + 2.0 * condition * width * (config.connector.cond_dim + width)
    return rows * (config.layers * block + ends)


def core(model: Any, *, reads: float, scored: float = 0.0) -> float:
    """Operations of a forward pass a token: active weights, entries read by attention (`reads` in all layers together)
    and keys scored by indexers (`scored` in all layers together)."""
    part = model.config.attention
    lookup = 2.0 * scored * part.index_heads * part.index_size
    return 2.0 * active(model) + 4.0 * reads * part.heads * part.entry + lookup


def active(model: Any) -> int:
    """Weights that one token is multiplied with: no rows that are looked up, and of the experts the chosen ones."""
    total = 0
    part = model.config.experts
    for name, weight in model.named_parameters():
        if "table" in name or (name.startswith("embedding") and not model.config.tied):
            continue
        share = part.chosen / part.count if name.endswith(("experts_in", "experts_out")) else 1.0
        total += int(weight.numel() * share)
    return total
