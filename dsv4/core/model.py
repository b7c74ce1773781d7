"""The language core: embedding, blocks over residual lanes, and a head; training, prefill and decoding in one forward.

Shape letters: B batch, T tokens, D hidden, V vocabulary, N lanes, L layers, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from dsv4.core import token_pass
from dsv4.core.block import Block
from dsv4.core.cache import Cache
from dsv4.core.config import COMPRESSED, CoreConfig
from dsv4.core.draft import Draft
from dsv4.core.engram import Engram, FusedEngram, prefetch
from dsv4.core.frame import Frame, make_frame
from dsv4.core.hyper import HyperOut, collapse, first_lane
from dsv4.core.memory import ROWS
from dsv4.core.moe import Experts
from dsv4.core.step import Turns, applies, block_step, can_step
from dsv4.ops.hashing import DEAD, blocked, shifted
from dsv4.ops.linear import Linear, linear
from dsv4.ops.loss import cross_entropy
from dsv4.ops.norm import RMSNorm, rms_norm
from dsv4.ops.numbers import compute_dtype

# Lanes, taps by block number, expert loads, balance loss and index loss of all blocks together.
Passed = tuple[Tensor, dict[int, Tensor], Tensor, Tensor, Tensor | None]

UNTOUCHED = ("hyper", "norm", "router", "table", "engram.conv", "compressor.place")  # start as their modules say

INDEX_LOSSES = {False: None, True: "all", "all": "all", "chosen": "chosen"}


class CoreOutput(NamedTuple):
    """What a forward pass gives; see `LanguageCore.forward`."""

    logits_BTV: Tensor | None
    hidden_BTD: Tensor
    cache: Cache | None
    taps: tuple[Tensor, ...]
    loads_LE: Tensor
    balance_loss: Tensor
    index_loss: Tensor | None


class LanguageCore(nn.Module):
    """A V4-class language model. `sparse` (an attribute) switches selection in evaluation off when set to False."""

    def __init__(self, config: CoreConfig, *, canonical_ids: Tensor) -> None:
        super().__init__()
        self.config = config
        self.sparse = True
        self._memory_open = True
        self._compiled = False
        self.steps_quickly = can_step(config)
        self._token_pass = token_pass.TokenPass()
        self.register_buffer("canonical_ids", canonical_ids, persistent=False)
        self.canonical_ids: Tensor
        vocabulary = config.vocab_size if canonical_ids.is_meta else int(canonical_ids.max()) + 1
        self.pad_id = 0
        if config.engram is not None and config.engram.picture_bits and 2**config.engram.picture_bits + 2 > vocabulary:
            raise ValueError(f"picture_bits={config.engram.picture_bits} makes more codes than {vocabulary} token ids")
        if config.engram is not None and not canonical_ids.is_meta:
            self.pad_id = int(canonical_ids[config.engram.pad_id])
        self.embedding = nn.Embedding(config.vocab_size, config.hidden)
        self.blocks = nn.ModuleList(Block(config, layer, vocabulary=vocabulary) for layer in range(config.layers))
        self.single_pass = config.lanes.count > 1 and config.lanes.passes == 1
        self.hyper_out = HyperOut(config) if config.lanes.count > 1 and not self.single_pass else None
        self.out_norm = RMSNorm(config.hidden, eps=config.norm_eps)
        self.head = None if config.tied else Linear(config.hidden, config.vocab_size)
        self.draft = Draft(config) if config.draft else None
        self._start()

    @classmethod
    def from_config(cls, config: CoreConfig, *, canonical_ids: Tensor | np.ndarray | None = None) -> Self:
        """A core with random weights from the global generator.

        `canonical_ids` [V] maps a token id to the id that stands for it in memory (identity without it); it comes from
        the tokenizer and is not part of the weights.
        """
        if canonical_ids is None:
            canonical_ids = torch.arange(config.vocab_size)
        canonical_ids = torch.as_tensor(canonical_ids).long()
        if canonical_ids.shape != (config.vocab_size,):
            raise ValueError(
                f"canonical_ids must have one entry a token: {config.vocab_size}, got {tuple(canonical_ids.shape)}"
            )
        return cls(config, canonical_ids=canonical_ids)

    @classmethod
    def from_pretrained(
        cls,
        folder: Path | str,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        draft: bool = False,
        layers: int | None = None,
        packed: bool = False,
    ) -> LanguageCore:
        """The core in a folder that transformers, DeepSeek or `save_pretrained` wrote; see `checkpoint.pretrained`."""
        return _checkpoints().load_core(folder, dtype=dtype, device=device, draft=draft, layers=layers, packed=packed)

    def save_pretrained(self, folder: Path | str) -> int:
        """Write config.json and safetensors in the names of the released family, ours where it is none."""
        return _checkpoints().save_core(self, folder)

    @torch.no_grad()
    def _start(self) -> None:
        back = 1 / math.sqrt(2 * self.config.layers)
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2 or any(part in name for part in UNTOUCHED):
                continue
            scale = 0.02 if name.startswith("embedding") else parameter.shape[-1] ** -0.5
            if name.endswith((".out.weight", "experts_out", "shared_out.weight", "dense_out.weight")):
                scale *= back
            parameter.normal_(0.0, scale)

    def forward(
        self,
        token_ids_BT: Tensor,
        *,
        cache: Cache | None = None,
        embeds_BTD: Tensor | None = None,
        memory_ids_BT: Tensor | None = None,
        taps: Sequence[int] = (),
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        index_loss: bool | str = False,
        sparse: bool | None = None,
        last_only: bool = False,
        logits: bool = True,
    ) -> CoreOutput:
        """Read tokens, after those in `cache` where one is given (it is appended to).

        token_ids_BT: int64 ids. embeds_BTD: their embeddings where some are replaced (pictures). memory_ids_BT: token
        ids as memory sees them, -1 where it is closed; [B, T, max_order] names the n-gram of each place itself, as
        `memory_ids` makes it, where a picture's codes (-2 and below) have neighbours in two dimensions.
        positions_BT: from zero, or on from the cache, by default; they restart with each document of a packed row.
        segments_BT: number of each token's document; attention and memory do not cross it (not with a cache).
        taps: 1-based block numbers; the mean over lanes after each of these blocks, before any norm, is returned.
        sparse: whether sparse layers select entries once there are more than top_k; by default only in evaluation.
        index_loss: True or 'all' trains the indexer against the whole attention distribution, 'chosen' (with
        `sparse=True`) against it over the selected entries; the gradient reaches only the indexer.
        logits=False leaves them out; last_only=True gives those of the last place, [B, 1, V].

        Returns logits_BTV, hidden_BTD (after the last norm; what `loss` takes), cache, taps, loads_LE (tokens sent to
        each expert), balance_loss (about 1 when even; to be weighted by the caller), index_loss (nats, mean of layers).
        """
        self._check(token_ids_BT, embeds_BTD, cache, segments_BT, taps, index_loss)
        frame = make_frame(
            self.config,
            positions_BT=self._positions(token_ids_BT, positions_BT, segments_BT, cache),
            batch=token_ids_BT.shape[0],
            segments_BT=segments_BT,
            cache=cache,
            token_ids_BT=self._routed_by(token_ids_BT, memory_ids_BT),
            sparse=(self.sparse and not self.training) if sparse is None else sparse,
            index_loss=INDEX_LOSSES[index_loss],
            compiled=self._compiled and not index_loss,
        )
        given_BTD = self.embedding(token_ids_BT) if embeds_BTD is None else embeds_BTD
        x_BTND = self._lanes(given_BTD)
        shifts = self._shifts(token_ids_BT if memory_ids_BT is None else memory_ids_BT, frame)
        way = self._way(given_BTD, frame)
        x_BTND, tapped, loads_LE, balance, index = way(x_BTND, shifts, frame, taps)
        if cache is not None:
            cache.advance(token_ids_BT.shape[1])
        hidden_BTD = self._collapsed(x_BTND[:, -1:] if last_only else x_BTND)
        return CoreOutput(
            logits_BTV=self.logits(hidden_BTD) if logits else None,
            hidden_BTD=hidden_BTD,
            cache=cache,
            taps=tuple(tapped[number] for number in taps),
            loads_LE=loads_LE,
            balance_loss=balance,
            index_loss=index,
        )

    def _way(self, given_BTD: Tensor, frame: Frame) -> Callable[..., Passed]:
        """How this pass goes through the blocks: one token by compiled parts or small operations, or any number."""
        if token_pass.applies(self, given_BTD, frame):
            return partial(self._token_pass.run, self)
        return self._step if applies(self, given_BTD, frame) else self._pass

    def _pass(self, x_BTND: Tensor, shifts: list[Tensor] | None, frame: Frame, taps: Sequence[int]) -> Passed:
        loads: list[Tensor] = []
        balances: list[Tensor] = []
        index_losses: list[Tensor] = []
        tapped: dict[int, Tensor] = {}
        pre_BTN = first_lane(x_BTND) if self.single_pass else None
        for number, block in enumerate(self.blocks, start=1):
            x_BTND, load_E, balance, index_loss, pre_BTN = block(x_BTND, shifts, frame, pre_BTN)
            loads.append(load_E)
            balances.append(balance)
            if index_loss is not None:
                index_losses.append(index_loss)
            if number in taps:
                tapped[number] = x_BTND.mean(2)
        index = torch.stack(index_losses).mean() if index_losses else None
        if pre_BTN is not None:
            x_BTND = collapse(x_BTND, pre_BTN)[:, :, None]
        return x_BTND, tapped, torch.stack(loads), torch.stack(balances).mean(), index

    def _step(self, x_BTND: Tensor, shifts: list[Tensor] | None, frame: Frame, taps: Sequence[int]) -> Passed:
        part = self.config.attention
        turns = Turns(frame, entry=part.entry, index=part.index_size, dtype=x_BTND.dtype)
        memory = None if shifts is None else [int(ids_BT) for ids_BT in shifts]
        loads: list[Tensor] = []
        balances: list[Tensor] = []
        tapped: dict[int, Tensor] = {}
        x_ND = x_BTND[0, 0]
        for number, block in enumerate(self.blocks, start=1):
            x_ND, load_E, balance = block_step(block, x_ND, memory, frame, turns)
            loads.append(load_E)
            balances.append(balance)
            if number in taps:
                tapped[number] = x_ND.mean(0)[None, None]
        return x_ND[None, None], tapped, torch.stack(loads), torch.stack(balances).mean(), None

    def hidden(self, token_ids_BT: Tensor, **options: object) -> Tensor:
        """The forward pass up to the head: [B, T, D], what `loss` takes."""
        return self(token_ids_BT, logits=False, **options).hidden_BTD

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """Scores of the vocabulary [B, T, V]."""
        return linear(hidden_BTD, self._head_weight())

    def loss(self, hidden_BTD: Tensor, targets_BT: Tensor, *, ignore: int = -100, chunk: int = 8192) -> Tensor:
        """Mean negative log likelihood in nats over targets that are not `ignore`; `targets_BT[b, t]` is what follows
        token t. At most `chunk` places' logits exist at a time."""
        return cross_entropy(
            hidden_BTD.flatten(0, 1), self._head_weight(), targets_BT.flatten(), ignore=ignore, chunk=chunk
        )

    def embed(self, token_ids_BT: Tensor) -> Tensor:
        """Token embeddings [B, T, D]; what `embeds_BTD` replaces."""
        return self.embedding(token_ids_BT)

    def compile_blocks(self) -> None:
        """Compile each block for fixed shapes, for training on an accelerator.

        Blocks of one kind share their code, so this takes a fraction of compiling the whole forward pass.
        """
        self._compiled = True
        for block in self.blocks:
            block.compile(dynamic=False)

    def new_cache(
        self,
        batch: int,
        capacity: int,
        *,
        rows: str = "plain",
        rewind: int = 0,
        index_keys: str = "plain",
        pages: bool = False,
    ) -> Cache:
        """An empty cache for `capacity` tokens of `batch` sequences, in the format of activations.

        rows: 'fp8' packs entries. rewind: how many tokens `Cache.truncate` must be able to take back. index_keys:
        'int8' and 'fp8' keep the indexer's keys in eight bits, which choose nearly the same entries.
        pages: take memory as it is filled, share it among forks, give it back with `truncate` (CPU under Linux).
        """
        weight = self.embedding.weight
        return Cache(
            self.config,
            batch=batch,
            capacity=capacity,
            dtype=compute_dtype(weight),
            device=weight.device,
            rows=rows,
            rewind=rewind,
            index_keys=index_keys,
            pages=pages,
        )

    def update_router_bias(self, loads_LE: Tensor, rate: float = 1e-3) -> None:
        """Steer every layer's router by one step of `rate` towards even loads (after an optimiser step)."""
        for block, load_E in zip(self.blocks, loads_LE, strict=True):
            if isinstance(block.experts, Experts):
                block.experts.router.nudge(load_E, rate)

    def place_memory(self, home: str, folder: Path | str | None = None, *, rows: str = "plain") -> None:
        """Move Engram's rows: `device` (with the other weights), `host` memory, or `mapped` from files in `folder`.

        The same logits in all three. Rows that are mapped are read only. rows='fp8' also turns them into eight-bit
        codes with a scale for 32 numbers, for good; they cannot be trained any more.
        """
        if rows not in ROWS:
            raise ValueError(f"unknown rows '{rows}' of memory; choose one of {', '.join(ROWS)}")
        for layer, engram in self._engrams():
            if rows == "fp8":
                engram.table.pack()
            file = None if folder is None else Path(folder) / f"engram-{layer:02d}.rows"
            engram.table.place(home, device=self.embedding.weight.device, file=file)

    def memory_ids(self, memory_ids_BT: Tensor, codes_BTO: Tensor | None = None) -> Tensor:
        """The n-gram of every place of whole rows [B, T, O], as `forward` takes it: words before it, or what is seen.

        codes_BTO: a picture's codes where there are any (what its eyes' `codes` give), -1 elsewhere.
        """
        part = self.config.engram
        if part is None:
            raise ValueError("this core has no memory, so there is nothing to look up")
        words = shifted(memory_ids_BT, part.max_order, pad=part.pad_id, before_BL=None, segments_BT=None)
        words_BTO = torch.stack(words, dim=-1)
        return words_BTO if codes_BTO is None else torch.where(codes_BTO < 0, words_BTO, -2 - codes_BTO)

    @contextmanager
    def zero_memory(self) -> Iterator[None]:
        """Within this context all memory is closed, which is the same as rows of zeros."""
        self._memory_open = False
        try:
            yield
        finally:
            self._memory_open = True

    def _lanes(self, given_BTD: Tensor) -> Tensor:
        """The normalised embeddings on every residual lane."""
        x_BTD = given_BTD.to(compute_dtype(given_BTD))
        if self.config.embed_norm:
            x_BTD = rms_norm(x_BTD, eps=self.config.norm_eps)
        x_BTND = x_BTD[:, :, None].expand(-1, -1, self.config.lanes.count, -1)
        # Compiled blocks get what later blocks get, so that the first one is not compiled apart.
        return x_BTND.contiguous() if self._compiled else x_BTND

    def _collapsed(self, x_BTND: Tensor) -> Tensor:
        """The lanes as one stream behind the last norm: what the head reads."""
        return self.out_norm(x_BTND[:, :, 0] if self.hyper_out is None else self.hyper_out(x_BTND))

    def _head_weight(self) -> Tensor:
        return self.embedding.weight if self.head is None else self.head.weight

    def _engrams(self) -> Iterator[tuple[int, Engram | FusedEngram]]:
        for layer, block in enumerate(self.blocks):
            if isinstance(block, Block) and block.engram is not None:
                yield layer, block.engram

    def _shifts(self, memory_ids_BT: Tensor, frame: Frame) -> list[Tensor] | None:
        part = self.config.engram
        if part is None or not self._memory_open:
            return None
        known = torch.where(memory_ids_BT < 0, memory_ids_BT, self.canonical_ids[memory_ids_BT.clamp_min(0)])
        ids_BT = known if known.ndim == 2 else known[..., 0]
        before_BL = None
        if frame.cache is not None:
            # No n-gram of words reaches into a picture.
            before_BL = frame.cache.append_memory_ids(ids_BT.clamp_min(DEAD), part.max_order - 1, self.pad_id)
        if known.ndim == 3:
            found = list(known.unbind(-1))
        else:
            found = shifted(ids_BT, part.max_order, pad=self.pad_id, before_BL=before_BL, segments_BT=frame.segments_BT)
            found = blocked(found, self.pad_id) if part.form == "fused" else found
        for _, engram in self._engrams():
            prefetch(engram, found, frame)
        return found

    def _routed_by(self, token_ids_BT: Tensor, memory_ids_BT: Tensor | None) -> Tensor:
        """Token ids, -1 at places of pictures where routers treat these apart."""
        if memory_ids_BT is None or not self.config.experts.picture_bias:
            return token_ids_BT
        return token_ids_BT.masked_fill((memory_ids_BT if memory_ids_BT.ndim == 2 else memory_ids_BT[..., 0]) < 0, -1)

    def _positions(
        self, token_ids_BT: Tensor, positions_BT: Tensor | None, segments_BT: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """Positions [1 or B, T]: those given, or from zero, or on from what the cache holds."""
        start = cache.length if cache is not None else 0
        counted_1T = torch.arange(start, start + token_ids_BT.shape[1], device=token_ids_BT.device)[None]
        if positions_BT is None and segments_BT is None:
            return counted_1T
        positions_BT = counted_1T if positions_BT is None else positions_BT
        if cache is not None and (positions_BT != positions_BT[:1]).any():
            raise ValueError(
                "rows of a cached batch must be equally long: left padding would put pads into windows and memory. "
                "Run rows of different lengths apart, or without a cache with `segments_BT`"
            )
        if set(self.config.reach) & set(COMPRESSED) and not (
            segments_BT is None and torch.equal(positions_BT, counted_1T.expand_as(positions_BT))
        ):
            raise ValueError("compressed layers read whole rows from position 0 on: give no positions and no segments")
        return positions_BT

    def _check(
        self,
        token_ids_BT: Tensor,
        embeds_BTD: Tensor | None,
        cache: Cache | None,
        segments_BT: Tensor | None,
        taps: Sequence[int],
        index_loss: bool | str,
    ) -> None:
        if token_ids_BT.ndim != 2 or token_ids_BT.shape[1] == 0:
            raise ValueError(f"token_ids_BT must be [batch, tokens] with at least one token, got {token_ids_BT.shape}")
        if embeds_BTD is not None and embeds_BTD.shape != (*token_ids_BT.shape, self.config.hidden):
            raise ValueError(
                f"embeds_BTD must be {(*token_ids_BT.shape, self.config.hidden)}, got {tuple(embeds_BTD.shape)}"
            )
        if cache is not None:
            cache.check(*token_ids_BT.shape)
            if segments_BT is not None:
                raise ValueError("segments are for whole packed rows; a cache holds one document a row")
        wrong = [number for number in taps if not 1 <= number <= self.config.layers]
        if wrong:
            raise ValueError(f"taps are block numbers from 1 to {self.config.layers}, got {wrong}")
        if index_loss not in INDEX_LOSSES:
            raise ValueError(f"index_loss must be False, True, 'all' or 'chosen', got {index_loss!r}")


def _checkpoints() -> ModuleType:
    # Reading files lies above the core, which is why it is looked up by name, and only when it is asked for.
    return import_module("dsv4.checkpoint.pretrained")
