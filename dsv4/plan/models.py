"""How many bytes a model's parts take: our presets counted on the meta device, released ones from the table.

Bits a weight include the scales: int8 in groups of 128 with a bf16 scale is 8 + 16/128. Rows of the cache as vLLM and
FlashMLA keep them: in fp8 448 + 2 x 64 + 8 bytes for an entry of 512 whose last 64 numbers carry the position.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dsv4.errors import InputError, unknown
from dsv4.plan.tables import table

PRESETS = ("micro", "nano", "small", "lite", "flagship")


@dataclass(frozen=True, kw_only=True)
class Tier:
    """Bits a weight for routed experts, for the rest and for memory rows, and the kind of the cache's rows."""

    experts: float
    dense: float
    engram: float
    rows: str  # fp8 or bf16
    says: str


FP8_ROWS = 8.25  # memory rows in fp8 with one scale byte for 32 numbers
TIERS: dict[str, Tier] = {
    "bf16": Tier(experts=16, dense=16, engram=16, rows="bf16", says="as trained"),
    "fp8": Tier(experts=8.002, dense=8.002, engram=FP8_ROWS, rows="fp8", says="blocks of 128 x 128"),
    "q8": Tier(experts=8.125, dense=8.125, engram=FP8_ROWS, rows="fp8", says="int8, groups of 128"),
    "native": Tier(experts=4.25, dense=8.002, engram=FP8_ROWS, rows="fp8", says="MXFP4 experts, fp8 for the rest"),
    "native-bf16": Tier(experts=4.25, dense=16, engram=FP8_ROWS, rows="fp8", says="MXFP4 experts, bf16 for the rest"),
    "q4": Tier(experts=4.125, dense=4.125, engram=FP8_ROWS, rows="fp8", says="int4 by AWQ or GPTQ, groups of 128"),
    "q8_0": Tier(experts=8.5, dense=8.5, engram=8.5, rows="bf16", says="GGUF"),
    "q4_k_m": Tier(experts=4.85, dense=4.85, engram=8.5, rows="bf16", says="GGUF"),
    "q4-experts": Tier(experts=4.5, dense=8.5, engram=8.5, rows="bf16", says="GGUF, Q4_K experts, Q8_0 for the rest"),
    "iq2_kl": Tier(experts=2.892, dense=2.892, engram=8.5, rows="bf16", says="GGUF, ik_llama.cpp"),
    "q2-experts": Tier(experts=2.25, dense=8.5, engram=8.5, rows="bf16", says="GGUF, IQ2_XXS and Q2_K experts"),
}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Parameters, and what a sequence keeps. Rows: bytes by kind (`fp8`, `bf16`)."""

    name: str
    dense: float  # parameters that every token uses, the embedding included
    looked_up: float  # of `dense`, those that are only looked up: an untied embedding
    experts: float
    count: int
    chosen: int
    engram: float
    engram_read: float  # memory numbers read a token
    depth: int
    full: int  # layers that keep one row a token
    csa: int  # one row every 4 tokens, with an indexer
    hca: int  # one row every 128 tokens
    indexed: int  # layers of `full` that have an indexer
    windows: int  # layers that keep a ring of `window` rows
    window: int
    top_k: int
    row: dict[str, float]
    index: dict[str, float]
    state_bytes: float  # further bytes a sequence, whatever its length
    token_bytes: float = 0.0  # further bytes a token, for example remembered ids
    ours: bool = False
    repo: str = ""
    source: str = ""

    @property
    def active(self) -> float:
        """Parameters that one token multiplies with."""
        return self.dense - self.looked_up + self.experts * self.chosen / self.count + self.engram_read

    @property
    def total(self) -> float:
        """All parameters."""
        return self.dense + self.experts + self.engram

    def kept_per_token(self, rows: str) -> float:
        """Bytes of cache a token adds."""
        row, index = self.row[rows], self.index[rows]
        read = self.full * row + self.indexed * index + self.csa * (row + index) / 4 + self.hca * row / 128
        return read + self.token_bytes

    def kept_always(self, rows: str) -> float:
        """Bytes of cache a sequence takes before its first token."""
        return self.windows * self.window * self.row[rows] + self.state_bytes

    def read_per_token(self, rows: str, context: int) -> float:
        """Bytes of cache that one decoded token reads: chosen rows where there is an indexer, all rows elsewhere."""
        row, index = self.row[rows], self.index[rows]
        plain = self.full - self.indexed
        read = plain * context * row + self.indexed * (context * index + min(self.top_k, context) * row)
        read += self.csa * (context / 4 * index + min(self.top_k, context / 4) * row) + self.hca * context / 128 * row
        return read + self.windows * min(self.window, context) * row


def sizes(name: str) -> Sizes:
    """A preset of ours, a released model of the family, or a JSON file of `CoreConfig.to_dict`'s form.

    Raises InputError for an unknown name, with the nearest.
    """
    if name in PRESETS:
        return _preset(name)
    if name.endswith(".json"):
        return _counted(Path(name).stem, _config(Path(name)))
    rows = table("family")["models"]
    if name not in rows:
        raise unknown("model", name, [*PRESETS, *rows, "a .json file of a CoreConfig"])
    row, billion = rows[name], 1e9
    layers = row["layers"]
    full = layers.get("full", 0)
    return Sizes(
        name=name, dense=row["dense"] * billion, looked_up=0.0, experts=row["experts"] * billion, count=row["count"],
        chosen=row["chosen"], engram=row["engram"] * billion, engram_read=48 * 256.0 if row["engram"] else 0.0,
        depth=row["depth"], full=full, csa=layers.get("csa", 0), hca=layers.get("hca", 0),
        indexed=full if row["index"]["fp8"] else 0, windows=row["depth"] if row["window"] else 0,
        window=row["window"], top_k=row["top_k"], row=row["row"], index=row["index"],
        state_bytes=row["state_mb"] * 1e6, repo=row["repo"], source=row["source"],
    )  # fmt: skip


@cache  # the largest takes seconds to lay out, even on the meta device
def _preset(name: str) -> Sizes:
    from dsv4.core import presets

    return _counted(name, getattr(presets, name)())


def _config(path: Path):
    from dsv4.core.config import CoreConfig

    try:
        return CoreConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"'{path}' is not a configuration: {error}") from error


def _counted(name: str, config) -> Sizes:
    from dsv4.core.count import count

    found, attention, engram = count(config), config.attention, config.engram
    read = engram.read * len(engram.layers) if engram else 0
    tails = 0
    if engram:
        tails = len(engram.layers) * (engram.kernel - 1) * engram.max_order * config.lanes.count * config.hidden * 2
    sparse, full = config.reach.count("sparse"), config.reach.count("full")
    return Sizes(
        name=name, dense=float(found.total - found.memory - found.experts),
        looked_up=0.0 if config.tied else float(config.vocab_size * config.hidden), experts=float(found.experts),
        count=config.experts.count, chosen=config.experts.chosen, engram=float(found.memory), engram_read=float(read),
        depth=config.layers, full=sparse + full, csa=0, hca=0, indexed=sparse, windows=config.reach.count("sliding"),
        window=attention.window, top_k=attention.top_k,
        row={"bf16": 2.0 * attention.entry, "fp8": attention.entry + attention.rotated + 8.0},
        index={"bf16": 2.0 * attention.index_size, "fp8": attention.index_size + 4.0},
        state_bytes=float(tails), token_bytes=8.0 if engram else 0.0, ours=True, source="counted on the meta device",
    )  # fmt: skip
