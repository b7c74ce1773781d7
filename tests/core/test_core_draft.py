"""Guessing ahead: the layer by its formula, and decoding with it against plain greedy decoding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dsv4.core import presets
from dsv4.core.config import LanesConfig
from dsv4.core.draft import Speed, draft_loss, speculate
from dsv4.core.model import LanguageCore

from .released import randomise, v3

Builder = Callable[..., LanguageCore]


def greedy(core: LanguageCore, ids: torch.Tensor, count: int) -> list[int]:
    cache, found = core.new_cache(1, ids.shape[1] + count), []
    with torch.inference_mode():
        output = core(ids, cache=cache)
        for _ in range(count):
            found.append(int(output.logits_BTV[0, -1].argmax()))
            output = core(torch.tensor([[found[-1]]]), cache=cache)
    return found


@pytest.mark.parametrize("guesses", [1, 3])
@pytest.mark.parametrize(
    "reach", [("sparse", "sliding", "full"), ("compressed_sparse", "heavily_compressed", "sliding")]
)
def test_text_is_that_of_greedy_decoding(build: Builder, guesses: int, reach: tuple[str, ...]) -> None:
    part = dataclasses.replace(presets.micro().attention, top_k=5, heavy=7)
    core = build(draft=1, reach=reach, attention=part)
    for seed in range(2):
        ids = torch.randint(0, 256, (1, 9 + seed), generator=torch.Generator().manual_seed(seed))
        plain = greedy(core, ids, 24)
        assert list(speculate(core, ids, max_tokens=24, guesses=guesses)) == plain
        stop = frozenset({plain[10]})
        assert list(speculate(core, ids, max_tokens=24, guesses=guesses, stop=stop)) == plain[: plain.index(plain[10])]


def test_right_guesses_save_passes(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """With guesses put in from the plain text every pass gives all its tokens."""
    core = build(draft=1)
    ids = torch.randint(0, 256, (1, 9), generator=torch.Generator().manual_seed(5))
    plain = greedy(core, ids, 24)
    state = {"at": 1}

    def knowing(core, draft, next_1T, hidden_1TW, twin, guesses):  # noqa: ANN001, ANN202
        at = state["at"]
        state["at"] += guesses + 1
        return torch.tensor([(plain + [0] * 9)[at : at + guesses]])

    monkeypatch.setattr("dsv4.core.draft._guess", knowing)
    speed = Speed()
    assert list(speculate(core, ids, max_tokens=20, guesses=3, speed=speed)) == plain[:20]
    assert (speed.passes, speed.tokens) == (5, 20)


def test_it_learns_to_guess_and_every_part_learns() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(presets.micro(32), draft=1, lanes=LanesConfig(count=2))
    core = LanguageCore.from_config(config)
    ids = (torch.arange(24)[None] * 3 + torch.arange(8)[:, None]) % 32  # the next token follows from this one
    optimizer = torch.optim.Adam(core.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        hidden = core.hidden(ids)
        loss = core.loss(hidden[:, :-1], ids[:, 1:]) + (guess := draft_loss(core, ids, hidden))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(guess.item())
    assert losses[-1] < 0.1 * losses[0]
    for name, parameter in core.draft.named_parameters():
        assert parameter.grad is not None and (parameter.grad != 0).any(), name
    speed = Speed()
    core.eval()
    text = list(speculate(core, ids[:1, :12], max_tokens=12, speed=speed))
    assert text == greedy(core, ids[:1, :12], 12)
    assert speed.passes <= 7, "a learnt guess is right nearly always"


def test_it_is_read_from_the_released_layout(tmp_path: Path) -> None:
    """Layer number L of a V3 folder, with its copies of embedding and head left out; without `draft` it is ignored."""
    from safetensors.torch import load_file, save_file

    peer = randomise(v3(), 0)
    peer.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    last = {name: tensor for name, tensor in tensors.items() if name.startswith("model.layers.2.")}
    tensors |= {name.replace("layers.2", "layers.3"): tensor.flip(0).contiguous() for name, tensor in last.items()}
    at = "model.layers.3."
    tensors |= {f"{at}enorm.weight": torch.full((64,), 0.5), f"{at}hnorm.weight": torch.full((64,), 2.0)}
    tensors |= {f"{at}eh_proj.weight": torch.randn(64, 128) / 11, f"{at}shared_head.norm.weight": torch.ones(64)}
    tensors |= {f"{at}embed_tokens.weight": torch.zeros(1), f"{at}shared_head.head.weight": torch.zeros(1)}
    save_file(tensors, tmp_path / "model.safetensors")
    plain, core = LanguageCore.from_pretrained(tmp_path), LanguageCore.from_pretrained(tmp_path, draft=True)
    assert plain.draft is None and torch.equal(core.draft.join.weight, tensors[f"{at}eh_proj.weight"])
    ids = torch.randint(0, 256, (1, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden, embeds = core.hidden(ids), core.embed(ids)
        found = core.draft(embeds[:, 1:], hidden[:, :-1])

        def norm(x: torch.Tensor) -> torch.Tensor:
            return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6)

        joined = torch.cat((0.5 * norm(embeds[:, 1:]), 2.0 * norm(hidden[:, :-1])), -1) @ core.draft.join.weight.T
        layer, source = peer.model.layers[2], core.draft.block
        layer.input_layernorm.weight.copy_(source.attention_norm.weight)
        for name, theirs in layer.state_dict().items():
            if f"{at}{name}" in tensors:
                theirs.copy_(tensors[f"{at}{name}"])
        layer.mlp.experts.gate_up_proj.copy_(source.experts.experts_in)
        layer.mlp.experts.down_proj.copy_(source.experts.experts_out)
        rotation = peer.model.rotary_emb(joined, torch.arange(11)[None])
        mask = torch.full((11, 11), float("-inf")).triu(1)[None, None]
        expected = norm(layer(joined, attention_mask=mask, position_embeddings=rotation))
    assert (found - expected).abs().max() < 1e-4
    core.save_pretrained(tmp_path / "again")
    again = LanguageCore.from_pretrained(tmp_path / "again", draft=True)
    assert torch.equal(again.draft.join.weight, core.draft.join.weight)


def test_what_is_missing_is_said(build: Builder, ids: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="no layer that guesses"):
        next(speculate(build(), ids[:1], max_tokens=1))
    with pytest.raises(ValueError, match="one row and at least one guess"):
        next(speculate(build(draft=1), ids, max_tokens=1))
    with pytest.raises(ValueError, match="at least three tokens"):
        draft_loss(build(draft=1), ids[:, :2], torch.zeros(2, 2, 64))
