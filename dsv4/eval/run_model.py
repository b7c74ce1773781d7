"""Run a model over many cases at once: greedy answers, pictures and clips in batches.

Shape letters: B rows, T tokens, V vision tokens, F frames, H and W pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dsv4._parts import part
from dsv4.chat_format import chat_ids, film_ids, paint_ids
from dsv4.model import Model

ROWS = 32
PICTURE_START = 2  # bos and user stand before a picture's places


def device_of(model: Model) -> torch.device:
    """Where the core's weights are."""
    return next(model.core.parameters()).device


@torch.inference_mode()
def make_frames(
    model: Model,
    prompts: Sequence[str],
    *,
    size: int,
    frames: int,
    steps: int = 8,
    guidance: float = 2.0,
    rows: int = ROWS,
) -> list[np.ndarray]:
    """A picture or clip for every prompt, uint8 [F, H, W, 3], row i from seed i."""
    generation = part("generation")
    assert model.head is not None
    make_ids = paint_ids if frames == 1 else film_ids
    device, made = device_of(model), []
    for start in range(0, len(prompts), rows):
        ids = [make_ids(model.tokenizer, prompt) for prompt in prompts[start : start + rows]]
        width = max(map(len, ids))
        pad = model.tokenizer.id_of("<|pad|>")
        ids_BT = torch.tensor([row + [pad] * (width - len(row)) for row in ids], device=device)
        mask_BT = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in ids], device=device)
        condition = model.head.condition(model.taps(ids_BT), mask_BT)
        seeds = list(range(start, start + len(ids)))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            frames_B3FHW = generation.sample_flow(
                model.head, condition, shape=(frames, size, size), steps=steps, guidance=guidance, seeds=seeds
            )
        scaled = ((frames_B3FHW.float().clamp(-1, 1) + 1) * 127.5).round().byte()
        made += list(scaled.permute(0, 2, 3, 4, 1).cpu().numpy())
    return made


@torch.inference_mode()
def answers(
    model: Model, questions: Sequence[str], pixels_B3SS: Sequence[Tensor], *, max_tokens: int = 96, rows: int = ROWS
) -> list[str]:
    """Greedy answers to one question a picture (views of one size, values in -1..1), thoughts left out.

    Questions of one length go through the core together; a row of a batch equals that row alone.
    """
    assert model.eyes is not None
    tokenizer, device = model.tokenizer, device_of(model)
    groups: dict[int, list[int]] = defaultdict(list)
    places = model.eyes.sequence(pixels_B3SS[0][None].to(device)).shape[1]
    ids = [chat_ids(tokenizer, question, image_tokens=(places,)) for question in questions]
    for number, row in enumerate(ids):
        groups[len(row)].append(number)
    said = [""] * len(questions)
    for group in groups.values():
        for start in range(0, len(group), rows):
            chosen = group[start : start + rows]
            ids_BT = torch.tensor([ids[number] for number in chosen], device=device)
            features_BVD = model.eyes.sequence(torch.stack([pixels_B3SS[number] for number in chosen]).to(device))
            written = _greedy(model, ids_BT, features_BVD, max_tokens)
            for number, tokens in zip(chosen, written, strict=True):
                said[number] = _spoken(model, tokens)
    return said


def _greedy(model: Model, ids_BT: Tensor, features_BVD: Tensor, max_tokens: int) -> list[list[int]]:
    core, stop = model.core, model.tokenizer.id_of("<|eos|>")
    rows, length = ids_BT.shape
    embeds_BTD = core.embed(ids_BT).clone()
    memory_BT = ids_BT.clone()
    span = slice(PICTURE_START, PICTURE_START + features_BVD.shape[1])
    embeds_BTD[:, span] = features_BVD.to(embeds_BTD.dtype)
    memory_BT[:, span] = -1
    cache = core.new_cache(rows, length + max_tokens)
    output = core(ids_BT, cache=cache, embeds_BTD=embeds_BTD, memory_ids_BT=memory_BT, last_only=True)
    steps = []
    ended_B = torch.zeros(rows, dtype=torch.bool, device=ids_BT.device)
    for _ in range(max_tokens):
        next_B = output.logits_BTV[:, -1].argmax(-1)
        steps.append(next_B)
        ended_B |= next_B == stop
        if bool(ended_B.all()):
            break
        output = core(next_B[:, None], cache=cache, last_only=True)
    written = torch.stack(steps, dim=1).tolist()
    return [row[: row.index(stop)] if stop in row else row for row in written]


def _spoken(model: Model, tokens: list[int]) -> str:
    closing = model.tokenizer.id_of("</think>")
    if closing in tokens:
        tokens = tokens[tokens.index(closing) + 1 :]
    return model.tokenizer.decode(tokens).strip()
