"""One token of one sequence through all blocks by compiled parts, where this machine has them.

The same arithmetic as the blocks with a few calls a block; the residual stream is float32 all the way. A part that the
loops do not know (compressed attention, experts from elsewhere, memory) is left to its module. Tests hold it equal to
the general path. Shape letters: N lanes, W hidden, H heads, D entry size, S entries, I index heads, C index size,
E experts, L layers.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dsv4.core.attention import SharedAttention
from dsv4.core.block import Block
from dsv4.core.config import CoreConfig
from dsv4.core.engram import Engram
from dsv4.core.hyper import HyperLanes
from dsv4.core.indexer import Indexer
from dsv4.core.latent import LatentAttention
from dsv4.core.moe import Dense, Experts
from dsv4.core.placed import HereStore, PlacedExperts
from dsv4.core.step import engram_step
from dsv4.ops import attend as ops
from dsv4.ops import native, token
from dsv4.ops.one_query import attend_one, choose_one
from dsv4.ops.packed import PackedStack
from dsv4.ops.select import best_places
from dsv4.ops.token import Places, Unfit, Weight, halves

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dsv4.core.frame import Frame
    from dsv4.core.model import LanguageCore

SCORES = ("softmax", "sigmoid", "sqrtsoftplus")


def applies(core: LanguageCore, given_BTD: Tensor, frame: Frame) -> bool:
    """Whether this pass may take this path."""
    lanes = core.config.lanes
    return (
        frame.cache is not None
        and given_BTD.shape[:2] == (1, 1)
        and given_BTD.device.type == "cpu"
        and given_BTD.dtype in (torch.float32, torch.bfloat16)
        and not torch.is_grad_enabled()
        and not frame.index_loss
        and (lanes.count == 1 or (lanes.mixing == "mhc" and lanes.passes == 2))
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and native.wide_library() is not None
    )


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Addresses of what one block's loops read; None where the module itself must be asked."""

    sites: tuple[Any, Any]  # Lanes, or the Matrix of a norm
    attention: token.Attention | None
    experts: token.Experts | None
    routes: Tensor | None


class TokenPass:
    """Descriptions of all blocks, made at the first token and made anew when a weight has moved."""

    def __init__(self) -> None:
        self._parts: list[Parts] | None = None
        self._places = Places()

    def __reduce__(self) -> Any:
        return TokenPass, ()  # a copy of a core has weights elsewhere

    def run(
        self, core: LanguageCore, x_BTNW: Tensor, shifts: list[Tensor] | None, frame: Frame, taps: Sequence[int]
    ) -> tuple[Tensor, dict[int, Tensor], Tensor, Tensor, None]:
        """Lanes, taps, loads [L, E], the mean balance loss, and no index loss."""
        if self._parts is None or self._places.moved():
            self._places = Places()
            self._parts = [_parts(block, core.config, self._places) for block in core.blocks]
        rooms = Rooms(core.config, x_BTNW, frame)
        tapped: dict[int, Tensor] = {}
        for number, (block, part) in enumerate(zip(core.blocks, self._parts, strict=True), start=1):
            if block.engram is not None and shifts is not None:
                rooms.x_NW += _engram(block.engram, rooms, shifts, frame)
            rooms.read(part.sites[0])
            _attention(block, part, rooms, frame)
            rooms.write(part.sites[0])
            rooms.read(part.sites[1])
            _experts(block, part, rooms, frame, number - 1)
            rooms.write(part.sites[1])
            if number in taps:
                tapped[number] = rooms.x_NW.mean(0)[None, None].to(rooms.dtype)
        return rooms.x_NW.to(rooms.dtype)[None, None], tapped, rooms.loads_LE, rooms.balance_L.mean(), None


class Rooms:
    """Where one pass keeps its numbers, all of them float32, and the addresses of them."""

    def __init__(self, config: CoreConfig, x_BTNW: Tensor, frame: Frame) -> None:
        lib, part = native.wide_library(), config.attention
        assert lib is not None
        self.lib, self.dtype, self.threads, self.eps = lib, x_BTNW.dtype, torch.get_num_threads(), config.norm_eps
        lanes, width = x_BTNW.shape[2:]
        self.lanes, self.width = lanes, width
        sizes = {"x": lanes * width, "into": width, "y": width, "post": lanes, "comb": lanes * lanes}
        if part.kind != "heads":
            entry, heads, size = part.entry, part.index_heads, part.index_size
            sizes |= {"q": part.heads * entry, "new": entry, "key": size, "query": heads * size, "weights": heads}
        whole = torch.empty(sum(-(-size // 16) * 16 for size in sizes.values()))
        self.at: dict[str, int] = {}
        self.flat: dict[str, Tensor] = {}
        start, base = 0, whole.data_ptr()
        for name, size in sizes.items():
            self.at[name], self.flat[name] = base + 4 * start, whole[start : start + size]
            start += -(-size // 16) * 16
        self.x_NW, self.into_W, self.y_W = self.flat["x"].view(lanes, width), self.flat["into"], self.flat["y"]
        self.x_NW.copy_(x_BTNW[0, 0])
        self.loads_LE = torch.zeros(config.layers, config.experts.count)
        self.balance_L = torch.ones(config.layers)
        self.turn = [one.data_ptr() for one in frame.near]

    def read(self, site: Any) -> None:
        """Put what a site works on, normalised, into `into`."""
        at = self.at
        if isinstance(site, token.Matrix):
            self.lib.dsv4_norm(at["into"], at["x"], ctypes.addressof(site), self.width, self.eps)
            return
        _done(self.lib.dsv4_lanes_read(ctypes.addressof(site), at["x"], at["into"], at["post"], at["comb"]))

    def write(self, site: Any) -> None:
        """Add `y` to the stream, or mix it into the lanes."""
        at = self.at
        if isinstance(site, token.Matrix):
            self.x_NW += self.y_W
            return
        self.lib.dsv4_lanes_write(at["x"], at["y"], at["post"], at["comb"], self.lanes, self.width)


def _done(wrong: int) -> None:
    if wrong:
        raise MemoryError("no memory for a token")


def _engram(module: Any, rooms: Rooms, shifts: list[Tensor], frame: Frame) -> Tensor:
    if isinstance(module, Engram) and rooms.dtype == torch.float32 == module.key.dtype:
        return engram_step(module, rooms.x_NW, [int(ids_BT) for ids_BT in shifts], frame)
    return module(rooms.x_NW.to(rooms.dtype)[None, None], shifts, frame)[0, 0]


def _attention(block: Block, part: Parts, rooms: Rooms, frame: Frame) -> None:
    module, own, at = block.attention, part.attention, rooms.at
    if own is None:
        rooms.y_W.copy_(module(rooms.into_W.to(rooms.dtype)[None, None], frame)[0].view(-1))
        return
    assert isinstance(module, (SharedAttention, LatentAttention)) and frame.cache is not None
    stop = frame.cache.length + 1
    index, selects = module.indexer, module.indexer is not None and frame.sparse and stop > module.top_k
    _done(rooms.lib.dsv4_attention_into(
        ctypes.addressof(own), at["into"], *rooms.turn, at["q"], at["new"], at["key"] if index is not None else None,
        at["query"] if selects else None, at["weights"] if selects else None, rooms.threads,
    ))  # fmt: skip
    source = frame.cache.append_entries(module.layer, rooms.flat["new"][None, None])
    keys = None if index is None else frame.cache.append_index_keys(module.layer, rooms.flat["key"][None, None])
    q_HD, places_K = rooms.flat["q"].view(own.heads, -1), None
    if selects and index is not None and keys is not None:
        query_IC, weights_I = rooms.flat["query"].view(index.heads, -1), rooms.flat["weights"]
        places_K = choose_one(query_IC, weights_I, *keys.first(source.stop), module.top_k)
        if places_K is None:
            scores_BQS = keys.scores(query_IC[None, None], weights_I[None, None], source.stop)
            places_K = best_places(scores_BQS, None, module.top_k)[0][0, 0]
        held_BSD = source.plain()
        rows_BSD = source.gather(places_K[None, None])[0] if held_BSD is None else held_BSD
        places_K = None if held_BSD is None else places_K
    else:
        rows_BSD = source.all()
    scale, value = module.scale or q_HD.shape[1] ** -0.5, module.value or q_HD.shape[1]
    read_HV = attend_one(q_HD, rows_BSD[0], places_K, module.sink, scale=scale, value=value)
    if read_HV is None:
        rows_BSD = (rows_BSD if places_K is None else rows_BSD[:, places_K]).float()
        read_HV = ops.attend(q_HD[None, None], rows_BSD, module.sink, None, scale=scale, value=value)[0, 0].contiguous()
    _done(rooms.lib.dsv4_attention_out(ctypes.addressof(own), read_HV.data_ptr(), *rooms.turn[:2], at["y"],
                                       rooms.threads))  # fmt: skip


def _experts(block: Block, part: Parts, rooms: Rooms, frame: Frame, layer: int) -> None:
    own, at = part.experts, rooms.at
    if own is None:
        y_BTW, load_E, balance = block.experts(rooms.into_W.to(rooms.dtype)[None, None], frame.token_ids_BT)
        rooms.y_W.copy_(y_BTW.view(-1))
        rooms.loads_LE[layer], rooms.balance_L[layer] = load_E, balance
        return
    route = None
    if part.routes is not None:
        assert frame.token_ids_BT is not None
        route = part.routes.data_ptr() + 8 * part.routes.shape[1] * int(frame.token_ids_BT)
    count = rooms.loads_LE.shape[1]
    _done(rooms.lib.dsv4_experts(
        ctypes.addressof(own), at["into"], route, at["y"], rooms.loads_LE.data_ptr() + 4 * count * layer,
        rooms.balance_L.data_ptr() + 4 * layer, rooms.threads,
    ))  # fmt: skip


def _parts(block: Block, config: CoreConfig, places: Places) -> Parts:
    places.watch(block, "attention", "experts")
    sites = tuple(_site(block, config, places, f"hyper_{name}", f"{name}_norm") for name in ("attention", "experts"))
    experts, routes = _or_none(_experts_of, block.experts, config, places) or (None, None)
    return Parts(
        sites=(sites[0], sites[1]),
        attention=_or_none(_attention_of, block.attention, config, places),
        experts=experts,
        routes=routes,
    )


def _or_none(make: Any, *given: Any) -> Any:
    try:
        return make(*given)
    except Unfit:
        return None


def _site(block: Block, config: CoreConfig, places: Places, hyper: str, norm: str) -> Any:
    weight = _norm(block, norm, places)
    module = getattr(block, hyper)
    places.watch(block, hyper)
    if module is None:
        return weight
    assert isinstance(module, HyperLanes)
    return token.Lanes(
        *(places.own(module, name) for name in ("fn", "base", "scale")), weight, module.lanes, config.hidden,
        module.iterations, module.eps, module.norm_eps, config.norm_eps,
    )  # fmt: skip


def _norm(parent: Any, name: str, places: Places) -> token.Matrix:
    places.watch(parent, name)
    return places.own(getattr(parent, name), "weight")


def _attention_of(module: Any, config: CoreConfig, places: Places) -> token.Attention:
    if type(module) not in (SharedAttention, LatentAttention):  # others of these read compressed entries too
        raise Unfit
    part, made, index = config.attention, token.Attention(), module.indexer
    places.watch(module, "indexer", "sink")
    folded = isinstance(module, LatentAttention)
    if part.rotated % 2 or (not folded and module.grid):
        raise Unfit
    if module.query_down is not None:
        made.query_down, made.query_norm = places.linear(module, "query_down"), _norm(module, "query_norm", places)
    made.query_up, made.entry = places.linear(module, "query_up"), places.linear(module, "entry")
    made.entry_norm, made.out = _norm(module, "entry_norm", places), places.linear(module, "out")
    if folded:
        made.unfold = places.linear(module, "unfold")
        if made.unfold.bits < 16:
            raise Unfit
        made.plain, made.value = part.plain, part.value
        made.inner_eps = part.latent_eps
    else:
        places.watch(module, "out_groups")
        groups = [places.matrix(one) for one in module.out_groups.unbind(0)]
        made.groups, made.group_count = places.array(token.Matrix, groups), len(groups)
        made.eps, made.inner_eps = (module.eps if module.head_norm else 0.0), config.norm_eps
    made.folded, made.heads, made.rotated, made.size = int(folded), part.heads, part.rotated, part.entry
    if index is not None:
        _index(made, index, places)
        made.index_heads, made.index_size, made.index_rotated = part.index_heads, part.index_size, part.index_rotated
    return made


def _index(made: token.Attention, index: Indexer, places: Places) -> None:
    made.index_query, made.index_key = places.linear(index, "query"), places.linear(index, "key")
    made.index_weights = places.linear(index, "weights")
    places.watch(index, "key_norm")
    made.index_norm, made.index_bias = places.own(index.key_norm, "weight"), places.own(index.key_norm, "bias")


def _experts_of(module: Any, config: CoreConfig, places: Places) -> tuple[token.Experts, Tensor | None]:
    part, made = config.experts, token.Experts()
    made.limit = part.limit or 0.0
    if isinstance(module, Dense):
        into, out = places.weight_of(module, "dense_in"), places.weight_of(module, "dense_out")
        made.shared = places.unit(*halves(into), out)
        return made, None
    if not isinstance(module, (Experts, PlacedExperts)) or (part.limit is not None and part.limit <= 0):
        raise Unfit
    into, out = places.weight_of(module, "shared_in"), places.weight_of(module, "shared_out")
    made.shared = places.unit(*halves(into), out)
    made.units = places.array(token.Unit, [places.unit(*three) for three in _units(module, places)])
    router = module.router
    if router.picture_bias is not None:
        raise Unfit
    places.watch(module, "router")
    places.watch(router, "routes")
    made.router, made.bias = places.own(router, "weight"), places.own(router, "bias")
    made.count, made.chosen, made.groups, made.groups_chosen = part.count, part.chosen, part.groups, part.groups_chosen
    made.score, made.normalised, made.scale = SCORES.index(part.score), int(part.normalised), part.scale
    return made, router.routes


def _units(module: Experts | PlacedExperts, places: Places) -> list[tuple[Weight, Weight, Weight]]:
    if isinstance(module, PlacedExperts):
        places.watch(module, "store")
        if not isinstance(module.store, HereStore):
            raise Unfit
        return list(module.store.experts)
    places.watch(module, "experts_in", "experts_out")
    if isinstance(module.experts_in, PackedStack) or isinstance(module.experts_out, PackedStack):
        raise Unfit
    return [(*halves(into), out) for into, out in zip(module.experts_in, module.experts_out, strict=True)]
