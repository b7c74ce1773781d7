"""The decoding loop: prefill once, then one token at a time until a stop token, a limit or a cancel.

Shape letters: B batch (1), T tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsv4.engine.replay import steps_of
from dsv4.engine.sample import sample

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dsv4.core.cache import Cache
    from dsv4.core.model import LanguageCore
    from dsv4.engine.constraint import Constraint
    from dsv4.engine.prefix import PrefixCache
    from dsv4.engine.replay import Replays


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What the core reads before it writes: ids, and where given the embeddings and memory ids that go with them."""

    token_ids_BT: Tensor
    embeds_BTD: Tensor | None = None
    memory_ids_BT: Tensor | None = None


def generate(
    core: LanguageCore,
    prompt: Prompt,
    *,
    max_tokens: int,
    stop: frozenset[int],
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
    cancelled: Callable[[], bool] | None = None,
    prefixes: PrefixCache | None = None,
    on_read: Callable[[int], None] | None = None,
    replays: Replays | None = None,
) -> Iterator[int]:
    """Yield new token ids, the stop token not among them.

    Ends at a stop token, after `max_tokens`, or before the next step once `cancelled()` is true. With `prefixes` what
    was read before is not read again; `on_read` is told how many tokens that spared. With `replays` steps are theirs.
    """
    import torch

    given_BT = prompt.token_ids_BT
    with steps_of(core, 1, given_BT.shape[1] + max_tokens, replays, given_BT.device) as steps:
        if prefixes is None:
            logits_BTV = _read(core, prompt, steps.cache)
        else:
            logits_BTV, reused = prefixes.read(core, prompt, steps.cache)
            if on_read is not None:
                on_read(reused)
        steps.begin()
        for _ in range(max_tokens):
            if cancelled is not None and cancelled():
                return
            logits_V = logits_BTV[0, -1].float()
            if constraint is not None:
                allowed_V = torch.from_numpy(constraint.allowed_V()).to(logits_V.device)
                logits_V = logits_V.masked_fill(~allowed_V, float("-inf"))
            token = sample(logits_V, temperature=temperature, generator=generator)
            if constraint is not None:
                constraint.push(token)
            if token in stop:
                return
            yield token
            logits_BTV = steps.step(torch.tensor([[token]]))


def _read(core: LanguageCore, prompt: Prompt, cache: Cache) -> Tensor:
    import torch

    with torch.inference_mode():
        return core(
            prompt.token_ids_BT,
            cache=cache,
            embeds_BTD=prompt.embeds_BTD,
            memory_ids_BT=prompt.memory_ids_BT,
            last_only=True,
        ).logits_BTV
