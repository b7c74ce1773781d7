"""The decoding loop for several prompts of one length: they share every forward pass until each has its end.

Shape letters: B rows, T tokens, V vocabulary. The choices are those of `generate` for each row alone: its own
constraint, its own generator. Only the last digits of the logits differ, since products of several rows are summed in
another order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsv4.engine.generate import Prompt
from dsv4.engine.replay import steps_of
from dsv4.engine.sample import sample

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dsv4.core.model import LanguageCore
    from dsv4.engine.constraint import Constraint
    from dsv4.engine.replay import Replays

SHRINK_AT = 0.75  # share of rows still going at which the finished ones are let go of


@dataclass(kw_only=True, eq=False)
class Row:
    """One prompt and how it is to be answered; `written` grows, without the stop token."""

    prompt: Prompt
    max_tokens: int
    temperature: float = 0.0
    generator: torch.Generator | None = None
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        self.written: list[int] = []
        self.done = False


def generate_together(
    core: LanguageCore, rows: Sequence[Row], *, stop: frozenset[int], replays: Replays | None = None
) -> list[list[int]]:
    """The new token ids of every row. Raises ValueError when prompts have several lengths, or no token is allowed.

    With `replays` steps are theirs, and rows that are done stay in the pass.
    """
    import torch

    lengths = {row.prompt.token_ids_BT.shape[1] for row in rows}
    if len(lengths) != 1:
        raise ValueError(f"prompts that share a pass must have one length, got {sorted(lengths)}")
    given = _joined(core, [row.prompt for row in rows])
    capacity = lengths.pop() + max(row.max_tokens for row in rows)
    device = rows[0].prompt.token_ids_BT.device
    with torch.inference_mode(), steps_of(core, len(rows), capacity, replays, device) as steps:
        logits_BTV = core(cache=steps.cache, last_only=True, **given).logits_BTV
        held = list(rows)
        steps.begin()
        while True:
            _choose(held, logits_BTV[:, -1].float(), stop)
            going = [place for place, row in enumerate(held) if not row.done]
            if not going:
                return [row.written for row in rows]
            if replays is None and len(going) <= SHRINK_AT * len(held):
                keep_rows(steps.cache, going)
                held = [held[place] for place in going]
            # A row that is done reads its last token again; nobody looks at what follows.
            logits_BTV = steps.step(torch.tensor([[row.written[-1] if row.written else 0] for row in held]))


def keep_rows(cache: Any, rows: Sequence[int]) -> None:
    """Let go of all sequences of a cache but these: of every tensor it holds, which all have the batch first."""
    import torch

    index = torch.tensor(list(rows))
    for holder in _holders(cache):
        for name, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            if isinstance(value, torch.Tensor):
                holder[name] = value[index.to(value.device)]
    cache.batch = len(rows)


def _holders(thing: Any) -> Iterable[Any]:
    """The lists and dictionaries inside an object of ours, its own attributes first."""
    import torch

    if isinstance(thing, list | dict):
        yield thing
        inner: Iterable[Any] = thing.values() if isinstance(thing, dict) else thing
    elif type(thing).__module__.startswith("dsv4.core.") and "config" not in type(thing).__module__:
        yield vars(thing)
        inner = vars(thing).values()
    else:
        return
    for value in list(inner):
        if not isinstance(value, torch.Tensor):
            yield from _holders(value)


def _joined(core: LanguageCore, prompts: Sequence[Prompt]) -> dict[str, Tensor | None]:
    """Ids, embeddings and memory ids of all prompts below one another, as `forward` takes them."""
    import torch

    ids_BT = torch.cat([prompt.token_ids_BT for prompt in prompts])
    if all(prompt.embeds_BTD is None and prompt.memory_ids_BT is None for prompt in prompts):
        return {"token_ids_BT": ids_BT}
    embeds = [core.embed(p.token_ids_BT) if p.embeds_BTD is None else p.embeds_BTD for p in prompts]
    memory = [p.token_ids_BT if p.memory_ids_BT is None else p.memory_ids_BT for p in prompts]
    if any(ids.ndim == 3 for ids in memory):  # one shows a picture that is looked up by its codes
        memory = [ids if ids.ndim == 3 else core.memory_ids(ids) for ids in memory]
    return {"token_ids_BT": ids_BT, "embeds_BTD": torch.cat(embeds), "memory_ids_BT": torch.cat(memory)}


def _choose(rows: Sequence[Row], logits_BV: Tensor, stop: frozenset[int]) -> None:
    """Give every row that is going its next token, or its end."""
    import numpy as np
    import torch

    bound = [place for place, row in enumerate(rows) if row.constraint is not None and not row.done]
    if bound:
        allowed = np.stack([rows[place].constraint.allowed_V() for place in bound])  # type: ignore[union-attr]
        closed = ~torch.from_numpy(allowed).to(logits_BV.device)
        logits_BV[bound] = logits_BV[bound].masked_fill(closed, float("-inf"))
    best = logits_BV.argmax(-1).tolist()
    for place, row in enumerate(rows):
        if row.done:
            continue
        greedy = row.temperature == 0 and bool(torch.isfinite(logits_BV[place, best[place]]))
        token = best[place] if greedy else sample(
            logits_BV[place], temperature=row.temperature, generator=row.generator
        )  # fmt: skip
        if row.constraint is not None:
            row.constraint.push(token)
        if token in stop:
            row.done = True
            continue
        row.written.append(token)
        row.done = len(row.written) >= row.max_tokens
