"""A layer that guesses the token after the next one, and decoding with it that gives the same text in fewer passes.

Shape letters: B batch, T tokens, W hidden, V vocabulary, N lanes, G guesses.
Source: multi-token prediction, DeepSeek-V3 report §2.2: the next token's embedding and the core's last state, each
normalised, are joined by one matrix and pass one block; embedding and head are the core's. Released as `eh_proj` with
the embedding first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dsv4.core.block import Block
from dsv4.core.cache import Cache
from dsv4.core.config import CoreConfig
from dsv4.core.frame import make_frame
from dsv4.core.hyper import HyperOut
from dsv4.ops.linear import Linear
from dsv4.ops.norm import RMSNorm
from dsv4.ops.numbers import compute_dtype

if TYPE_CHECKING:
    from dsv4.core.model import LanguageCore


def draft_config(config: CoreConfig) -> CoreConfig:
    """The one-layer configuration of the guessing block: as the last layer, but sliding beside shared entries."""
    reach = "sliding" if config.attention.kind == "shared" else config.reach[-1]
    experts = replace(config.experts, hashed=(), dense=())
    lanes = replace(config.lanes, passes=2)
    return replace(config, reach=(reach,), experts=experts, lanes=lanes, engram=None, draft=0)


class Draft(nn.Module):
    """The guessing layer."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__()
        self.config = draft_config(config)
        self.token_norm = RMSNorm(config.hidden, eps=config.norm_eps)
        self.hidden_norm = RMSNorm(config.hidden, eps=config.norm_eps)
        self.join = Linear(2 * config.hidden, config.hidden)
        self.block = Block(self.config, 0, vocabulary=config.vocab_size)
        self.hyper_out = HyperOut(config) if config.lanes.count > 1 else None
        self.out_norm = RMSNorm(config.hidden, eps=config.norm_eps)

    def forward(
        self, embeds_BTW: Tensor, hidden_BTW: Tensor, *, cache: Cache | None = None, sparse: bool = True
    ) -> Tensor:
        """State [B, T, W] from which the head guesses, given the core's states and the embeddings one token further."""
        dtype = compute_dtype(embeds_BTW)
        both = torch.cat((self.token_norm(embeds_BTW.to(dtype)), self.hidden_norm(hidden_BTW.to(dtype))), -1)
        x_BTNW = self.join(both)[:, :, None].expand(-1, -1, self.config.lanes.count, -1)
        batch, length = embeds_BTW.shape[:2]
        start = cache.length if cache is not None else 0
        frame = make_frame(
            self.config,
            positions_BT=torch.arange(start, start + length, device=embeds_BTW.device)[None],
            batch=batch,
            segments_BT=None,
            cache=cache,
            sparse=sparse,
            index_loss=None,
        )
        x_BTNW = self.block(x_BTNW, None, frame)[0]
        if cache is not None:
            cache.advance(length)
        return self.out_norm(x_BTNW[:, :, 0] if self.hyper_out is None else self.hyper_out(x_BTNW))


def draft_of(core: LanguageCore) -> Draft:
    """The core's guessing layer; ValueError when it has none."""
    if core.draft is None:
        raise ValueError(
            "this core has no layer that guesses: set draft=1 in its configuration, or load it with draft=True"
        )
    return core.draft


def draft_loss(core: LanguageCore, token_ids_BT: Tensor, hidden_BTW: Tensor) -> Tensor:
    """Mean negative log likelihood in nats of the tokens two places on; `hidden_BTW` is what the core made of them."""
    if token_ids_BT.shape[1] < 3:
        raise ValueError(f"guessing two places on needs at least three tokens, got {token_ids_BT.shape[1]}")
    state_BTW = draft_of(core)(core.embed(token_ids_BT[:, 1:-1]), hidden_BTW[:, :-2], sparse=not core.training)
    return core.loss(state_BTW, token_ids_BT[:, 2:])


@dataclass
class Speed:
    """What speculative decoding did: passes of the core after the prompt, and tokens that it gave."""

    passes: int = 0
    tokens: int = 0


def speculate(
    core: LanguageCore,
    token_ids_1T: Tensor,
    *,
    max_tokens: int,
    guesses: int = 1,
    stop: frozenset[int] = frozenset(),
    speed: Speed | None = None,
) -> Iterator[int]:
    """Greedy decoding of one row, up to `guesses` tokens a pass ahead; yields what plain greedy decoding yields.

    A guess is kept only where the core itself would have chosen it. Ends after `max_tokens` or at a stop token, which
    is not yielded. `speed` counts.
    """
    draft = draft_of(core)
    if guesses < 1 or token_ids_1T.shape[0] != 1:
        raise ValueError(
            f"speculation is for one row and at least one guess, got {token_ids_1T.shape[0]} and {guesses}"
        )
    speed = speed if speed is not None else Speed()
    room = token_ids_1T.shape[1] + max_tokens + guesses + 1
    weight = core.embedding.weight
    with torch.inference_mode():
        cache = core.new_cache(1, room, rewind=guesses + 1)
        twin = Cache(draft.config, batch=1, capacity=room, dtype=compute_dtype(weight), device=weight.device,
                     rewind=guesses + 1)  # fmt: skip
        output = core(token_ids_1T, cache=cache)
        token = output.logits_BTV[0, -1].argmax()[None, None]
        hidden_1TW, next_1T = output.hidden_BTD, torch.cat((token_ids_1T[:, 1:], token), 1)
    while speed.tokens < max_tokens:
        with torch.inference_mode():
            guessed_1G = _guess(core, draft, next_1T, hidden_1TW, twin, guesses)
            output = core(torch.cat((token, guessed_1G), 1), cache=cache)
            chosen_1G = output.logits_BTV[0].argmax(-1)[None]
            right = int((chosen_1G[:, :-1] == guessed_1G).long().cumprod(-1).sum())
            cache.truncate(cache.length - guesses + right)
            given = [int(token), *guessed_1G[0, :right].tolist()]
            token = chosen_1G[:, right : right + 1]
            hidden_1TW, next_1T = output.hidden_BTD[:, : right + 1], torch.cat((guessed_1G[:, :right], token), 1)
        speed.passes += 1
        for one in given:
            if one in stop or speed.tokens == max_tokens:
                return
            speed.tokens += 1
            yield one


def _guess(core: LanguageCore, draft: Draft, next_1T: Tensor, hidden_1TW: Tensor, twin: Cache, guesses: int) -> Tensor:
    """Guesses [1, G] behind the last of the tokens that are certain; the draft's cache keeps only certain ones."""
    state_1TW = draft(core.embed(next_1T), hidden_1TW, cache=twin)
    certain, found = twin.length, []
    for number in range(guesses):
        found.append(core.logits(state_1TW[:, -1:])[0, -1].argmax()[None, None])
        if number + 1 < guesses:
            state_1TW = draft(core.embed(found[-1]), state_1TW[:, -1:], cache=twin)
    twin.truncate(certain)
    return torch.cat(found, 1)
