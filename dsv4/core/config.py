"""Configuration of the language core: closed, frozen, checked where it is made.

Sizes are counts; `reach` has one word a layer.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from torch import Tensor

COMPRESSED = ("compressed_sparse", "heavily_compressed", "shared_compressed")
REACHES = ("full", "sparse", "sliding", *COMPRESSED)
SCORES = ("sqrtsoftplus", "sigmoid", "softmax")
MIXINGS = ("mhc", "hyper")
FORMS = ("paper", "fused")


def _from_dict(kind: type, given: Mapping[str, Any], where: str) -> Any:
    allowed = [item.name for item in fields(kind)]
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(allowed)}"
            raise ValueError(f"unknown key '{key}' in {where}; {hint}")
        part = _part(key, value) if isinstance(value, Mapping) else None
        if part is not None:
            value = _from_dict(part, value, part.__name__)
        values[key] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _part(key: str, given: Mapping[str, Any]) -> type | None:
    if key != "attention":
        return _PARTS.get(key)
    kind = given.get("kind", "shared")
    _one_of("attention kind", kind, ATTENTIONS)
    return ATTENTIONS[kind]


def _one_of(what: str, word: object, allowed: Iterable[str]) -> None:
    """ValueError with the nearest match unless `word` is allowed."""
    if word not in allowed:
        near = difflib.get_close_matches(str(word), list(allowed), n=1, cutoff=0.3)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"unknown {what} '{word}', allowed: {', '.join(allowed)}{hint}")


def _positive(part: Any, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{type(part).__name__}.{name} must be a whole number of at least 1, got {value!r}")


def _kind_is(part: Any) -> None:
    if part.kind != part.KIND:
        raise ValueError(f"{type(part).__name__}.kind is '{part.KIND}', got {part.kind!r}")


def _even(*parts: tuple[str, int, int]) -> None:
    for name, size, whole in parts:
        if size < 0 or size % 2 or size > whole:
            raise ValueError(f"{name} must be even and between 0 and {whole}, got {size}")


@dataclass(frozen=True, kw_only=True)
class YarnConfig:
    """Positions stretched past the length that training began with (YaRN, arXiv 2309.00071)."""

    factor: float
    original: int  # length in tokens before stretching
    fast: float = 32.0  # turns over `original` from which on a pair keeps its speed
    slow: float = 1.0  # turns below which a pair is slowed by the whole factor
    mscale: float = 0.0
    mscale_all: float = 0.0
    stretch: float | None = None  # multiplies cosine and sine; by default it follows from the two scales

    def __post_init__(self) -> None:
        if self.factor < 1 or self.original < 1:
            raise ValueError(f"YaRN needs a factor and an original length of at least 1, got {self}")

    @property
    def turn_scale(self) -> float:
        """What cosine and sine are multiplied by."""
        if self.stretch is not None:
            return self.stretch
        if self.mscale and self.mscale_all:
            return self._grown(self.mscale) / self._grown(self.mscale_all)
        return self._grown(1.0)

    @property
    def score_scale(self) -> float:
        """What attention scores are multiplied by (V2, V3): the square of the grown scale."""
        return self._grown(self.mscale_all) ** 2 if self.mscale_all else 1.0

    def _grown(self, scale: float) -> float:
        return 0.1 * scale * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0


@dataclass(frozen=True, kw_only=True)
class SharingConfig:
    """Which layers of `shared_compressed` reach make compressed entries, and which choose among them (CSA2).

    A layer that is no source reads the entries of the last source before it; one that does not choose reads what the
    last chooser before it chose. Choosers behind `pool_source` choose within its best blocks alone.
    """

    ratios: tuple[int, ...]  # tokens that an entry stands for, a layer; 0 where the layer has none
    sources: tuple[int, ...]
    choosers: tuple[int, ...]  # every source is one
    pool_source: int | None = None
    pool_blocks: int = 2048
    pool_size: int = 8  # entries of a block
    entry_tile: int = 16  # numbers of an entry that share a scale where entries are rounded to FP4; 0: not
    key_tile: int = 32  # the same for keys and queries of the indexer

    def __post_init__(self) -> None:
        _positive(self, "pool_blocks", "pool_size")
        if not set(self.sources) <= set(self.choosers):
            raise ValueError(
                f"every source must choose too, but {sorted(set(self.sources) - set(self.choosers))} do not"
            )
        if self.pool_source is not None and self.pool_source != max(self.sources, default=None):
            raise ValueError(f"pool_source must be the last of the sources {self.sources}, got {self.pool_source}")
        ratio = 0
        for layer, own in enumerate(self.ratios):
            if layer in self.sources:
                ratio = own
            if own and own != ratio:
                raise ValueError(f"layer {layer} needs a source of ratio {own} before it, or to be one")
            if not own and layer in self.choosers:
                raise ValueError(f"layer {layer} has no compressed entries (ratio 0), so it cannot make or choose them")

    def leading(self, layers: int) -> SharingConfig | None:
        """That of the first `layers` layers; None where none of them has compressed entries."""
        sources, choosers = (tuple(one for one in each if one < layers) for each in (self.sources, self.choosers))
        pool = self.pool_source if self.pool_source in sources else None
        cut = replace(self, ratios=self.ratios[:layers], sources=sources, choosers=choosers, pool_source=pool)
        return cut if any(cut.ratios) else None


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Shared entries (key and value at once) and the indexer that chooses among them.

    Layers of compressed reach also read entries that stand for `light` or `heavy` tokens each; they turn by `far_theta`
    and `yarn`.
    """

    KIND: ClassVar[str] = "shared"

    heads: int
    entry: int  # size of a head and of the one entry a token leaves in the cache
    rotated: int  # last part of the entry that carries the position
    q_rank: int
    groups: int  # of heads, in the output projection
    o_rank: int  # a group
    window: int
    top_k: int
    index_heads: int
    index_size: int
    index_rotated: int
    theta: float = 1e4
    light: int = 4  # tokens that a compressed entry of `compressed_sparse` reach begins anew after
    heavy: int = 128  # the same for `heavily_compressed` reach
    far_theta: float = 1.6e5
    yarn: YarnConfig | None = None
    head_norm: bool = True  # query heads are normalised, without a weight (V4); V4.1 leaves it out
    grid: int = 0  # numbers of an entry that share a scale where entries are rounded to FP8, as V4.1 does; 0: not
    sharing: SharingConfig | None = None  # of layers of `shared_compressed` reach
    kind: str = "shared"

    REACHES: ClassVar[tuple[str, ...]] = REACHES

    def __post_init__(self) -> None:
        _kind_is(self)
        _positive(self, "heads", "entry", "q_rank", "groups", "o_rank", "window", "top_k", "index_heads", "index_size")
        _positive(self, "light", "heavy")
        if self.heads % self.groups:
            raise ValueError(f"heads ({self.heads}) must divide into groups ({self.groups})")
        _even(("rotated", self.rotated, self.entry), ("index_rotated", self.index_rotated, self.index_size))
        plan = self.sharing
        if plan is not None and plan.pool_source is not None and plan.pool_blocks * plan.pool_size < self.top_k:
            raise ValueError(
                f"a pool of {plan.pool_blocks} blocks of {plan.pool_size} holds less than top_k={self.top_k}"
            )


@dataclass(frozen=True, kw_only=True)
class LatentConfig:
    """Latent attention (MLA): a token leaves one latent and one rotated key part, which every head unfolds for itself.

    An indexer is there when `index_heads` is not 0; `sparse` layers need it.
    """

    KIND: ClassVar[str] = "mla"
    REACHES: ClassVar[tuple[str, ...]] = ("full", "sparse")

    heads: int
    latent: int
    plain: int  # numbers of a query and key head that carry no position
    rotated: int  # numbers that do; the key's are shared by all heads
    value: int  # size of a value head
    q_rank: int | None = None  # None: queries come straight from the hidden state
    top_k: int = 2048
    index_heads: int = 0
    index_size: int = 128
    theta: float = 1e4
    yarn: YarnConfig | None = None
    latent_eps: float = 1e-6  # of the two norms inside; released models keep this one whatever `norm_eps` is
    kind: str = "mla"

    def __post_init__(self) -> None:
        _kind_is(self)
        _positive(self, "heads", "latent", "plain", "value", "top_k", "index_size")
        _even(("rotated", self.rotated, 2**30), ("index_size less rotated", self.index_size - self.rotated, 2**30))
        if self.index_heads and self.q_rank is None:
            raise ValueError("an indexer reads the query latent, so index_heads needs a q_rank")

    @property
    def entry(self) -> int:
        """Numbers a token leaves in the cache."""
        return self.latent + self.rotated

    @property
    def index_rotated(self) -> int:
        """Leading numbers of an index head that carry the position."""
        return self.rotated


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """Ordinary attention with keys and values of its own for every head, or for groups of heads."""

    KIND: ClassVar[str] = "heads"
    REACHES: ClassVar[tuple[str, ...]] = ("full",)

    heads: int
    kv_heads: int
    size: int
    theta: float = 1e4
    kind: str = "heads"
    yarn: ClassVar[None] = None
    index_size: ClassVar[int] = 0
    index_rotated: ClassVar[int] = 0
    top_k: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _kind_is(self)
        _positive(self, "heads", "kv_heads", "size")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must divide into kv_heads ({self.kv_heads})")
        _even(("size", self.size, 2**30))

    @property
    def entry(self) -> int:
        """Numbers a token leaves in the cache: all its keys, then all its values."""
        return 2 * self.kv_heads * self.size

    @property
    def rotated(self) -> int:
        """Numbers of a head that carry the position: all."""
        return self.size


ATTENTIONS: dict[str, type] = {part.KIND: part for part in (AttentionConfig, LatentConfig, HeadsConfig)}


@dataclass(frozen=True, kw_only=True)
class ExpertsConfig:
    """Routed experts and one shared expert; some layers may be dense or routed by a table of token ids instead."""

    count: int
    chosen: int
    inner: int
    shared_inner: int
    scale: float = 1.5
    score: str = "sqrtsoftplus"
    normalised: bool = True  # weights of the chosen are made to sum to `scale`
    groups: int = 1  # experts stand in so many groups, of which `groups_chosen` may be chosen from
    groups_chosen: int = 1
    limit: float | None = None  # gates are cut above it, the other half of the unit at both sides
    hashed: tuple[int, ...] = ()  # layers that choose by token id
    picture_bias: bool = False  # tokens of pictures are routed with a bias of their own (V4.1)
    dense: tuple[int, ...] = ()  # layers with one unit of `dense_inner` and no experts
    dense_inner: int = 0

    def __post_init__(self) -> None:
        _positive(self, "count", "chosen", "inner", "shared_inner", "groups", "groups_chosen")
        if self.chosen > self.count:
            raise ValueError(f"cannot choose {self.chosen} of {self.count} experts")
        _one_of("score", self.score, SCORES)
        if self.count % self.groups or self.groups_chosen > self.groups:
            raise ValueError(f"cannot choose from {self.groups_chosen} of {self.groups} groups of {self.count} experts")
        if self.chosen > self.groups_chosen * self.count // self.groups:
            raise ValueError(f"{self.groups_chosen} of {self.groups} groups hold fewer than {self.chosen} experts")
        if self.dense:
            _positive(self, "dense_inner")
        if set(self.dense) & set(self.hashed):
            raise ValueError(f"layers {sorted(set(self.dense) & set(self.hashed))} cannot be both dense and hashed")


@dataclass(frozen=True, kw_only=True)
class LanesConfig:
    """Residual lanes; one lane is a plain residual stream. `mixing` is `mhc` (constrained) or `hyper` (free).

    With two passes a site reads by weights made from the lanes as they are; with a single one (V4.1) by those that the
    site before made, the first site reads lane 0, and the last weights also make the one stream for the head.
    """

    count: int = 2
    iterations: int = 20
    eps: float = 1e-6
    mixing: str = "mhc"
    passes: int = 2

    def __post_init__(self) -> None:
        _positive(self, "count", "iterations")
        _one_of("mixing", self.mixing, MIXINGS)
        if self.passes not in (1, 2):
            raise ValueError(f"LanesConfig.passes must be 1 or 2, got {self.passes!r}")


@dataclass(frozen=True, kw_only=True)
class EngramConfig:
    """Memory of hashed n-grams: orders 2 to `max_order`, `heads` tables of at least `rows` rows for each order.

    `form` is `paper` (a key projection a lane and a short convolution) or `fused` (V4.1: one projection, none).
    """

    layers: tuple[int, ...]
    rows: int
    width: int  # of a row
    heads: int = 4
    max_order: int = 3
    kernel: int = 4
    pad_id: int = 0  # the token that stands before the start of a document
    seed: int = 0
    form: str = "paper"
    picture_bits: int = 0  # of the codes that pictures are looked up by; 0 closes memory at pictures

    def __post_init__(self) -> None:
        _positive(self, "rows", "width", "heads", "kernel")
        _one_of("form of memory", self.form, FORMS)
        if self.max_order < 2:
            raise ValueError(f"max_order must be at least 2, got {self.max_order}")
        if not 0 <= self.picture_bits <= 24:
            raise ValueError(f"picture_bits must be 0 (closed) to 24, got {self.picture_bits}")
        if self.picture_bits and self.form == "fused":
            raise ValueError("memory of the fused form is closed at pictures; picture_bits must be 0")

    @property
    def orders(self) -> int:
        """How many n-gram lengths there are."""
        return self.max_order - 1

    @property
    def read(self) -> int:
        """Numbers read a token: all rows side by side."""
        return self.orders * self.heads * self.width


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """The whole core."""

    vocab_size: int
    hidden: int
    reach: tuple[str, ...]  # a word of REACHES for each layer
    attention: AttentionConfig | LatentConfig | HeadsConfig
    experts: ExpertsConfig
    lanes: LanesConfig = field(default_factory=LanesConfig)
    engram: EngramConfig | None = None
    tied: bool = True  # the head reads the embedding table
    norm_eps: float = 1e-6
    embed_norm: bool = True  # embeddings are normalised before the first block
    draft: int = 0  # blocks that guess a further token each, for speculative decoding

    def __post_init__(self) -> None:
        _positive(self, "vocab_size", "hidden")
        for word in self.reach:
            _one_of("reach", word, REACHES)
            if word not in self.attention.REACHES:
                allowed = ", ".join(self.attention.REACHES)
                raise ValueError(f"{self.attention.kind} attention cannot have reach '{word}', only {allowed}")
        if not self.reach:
            raise ValueError("reach must name at least one layer")
        if "sparse" in self.reach and not self.attention.index_heads:
            raise ValueError("sparse layers need an indexer: set attention.index_heads")
        shared = [layer for layer, word in enumerate(self.reach) if word == "shared_compressed"]
        if shared and shared != [layer for layer, ratio in enumerate(_ratios(self.attention)) if ratio]:
            raise ValueError(
                f"layers {shared} have shared compressed entries, so attention.sharing must give a ratio to these alone"
            )
        if self.draft not in (0, 1):
            raise ValueError(f"draft must be 0 or 1, got {self.draft!r}")
        named = {"experts.dense": self.experts.dense, "experts.hashed": self.experts.hashed}
        if self.engram is not None:
            named["engram"] = self.engram.layers
        for what, layers in named.items():
            outside = [layer for layer in layers if not 0 <= layer < self.layers]
            if outside:
                raise ValueError(f"{what} layers {outside} are outside the {self.layers} layers (counted from 0)")

    @property
    def layers(self) -> int:
        """How many blocks."""
        return len(self.reach)

    def ratio(self, layer: int) -> int:
        """Tokens that a compressed entry of a layer stands for; 0 where there are none."""
        part, word = self.attention, self.reach[layer]
        if not isinstance(part, AttentionConfig) or word not in COMPRESSED:
            return 0
        if word == "shared_compressed":
            return _ratios(part)[layer]
        return part.light if word == "compressed_sparse" else part.heavy

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers; `from_dict` undoes it."""
        return _lists(asdict(self))

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Read `to_dict`'s form; ValueError names an unknown key and its nearest match."""
        return _from_dict(cls, given, cls.__name__)

    def fake_input(self, batch: int = 1, length: int = 8) -> dict[str, Tensor]:
        """Keyword arguments of a forward pass over made-up ids, the same every time."""
        import torch

        generator = torch.Generator().manual_seed(0)
        return {"token_ids_BT": torch.randint(0, self.vocab_size, (batch, length), generator=generator)}


_PARTS: dict[str, type] = {
    "experts": ExpertsConfig, "lanes": LanesConfig, "engram": EngramConfig, "yarn": YarnConfig, "sharing": SharingConfig
}  # fmt: skip


def _ratios(attention: AttentionConfig | LatentConfig | HeadsConfig) -> tuple[int, ...]:
    plan = attention.sharing if isinstance(attention, AttentionConfig) else None
    return () if plan is None else plan.ratios


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value
