"""Steps in one shape, as a CUDA graph holds them, are the eager steps: every kind of layer, and memory on the host."""

from __future__ import annotations

import dataclasses
import warnings

import pytest
import torch

from dsv4.core.model import LanguageCore
from dsv4.core.presets import micro
from dsv4.core.static import StaticCache
from dsv4.engine import replay
from dsv4.engine.generate import Prompt, generate
from dsv4.engine.together import Row, generate_together


def core_of(**changes: object) -> LanguageCore:
    torch.manual_seed(0)
    core = LanguageCore.from_config(dataclasses.replace(micro(), **changes)).double().eval().requires_grad_(False)
    core.steps_quickly = False
    return core


MEMORY, LANES = micro().engram, micro().lanes
FUSED = {"engram": dataclasses.replace(MEMORY, form="fused"), "lanes": dataclasses.replace(LANES, passes=1)}
PLAIN = {"engram": None, "lanes": dataclasses.replace(LANES, count=1)}


@pytest.mark.parametrize("changes", [{}, FUSED, PLAIN], ids=["own", "V4.1's", "one lane"])
def test_steps_equal_eager_steps_at_every_length(changes, monkeypatch):
    monkeypatch.setattr(replay, "LEAST", 4)  # below the 12 that sparse layers choose, so that every reach is met
    core, ids = core_of(**changes), torch.randint(0, 256, (2, 40))
    still, eager = replay.Replay(core, 2, 40), replay.EagerSteps(core, 2, 40, ids.device)
    for start in (5, 1):  # the second time over what the first one left
        for steps in (still, eager):
            steps.cache.truncate(0)
            with torch.inference_mode():
                core(ids[:, :start], cache=steps.cache)
            steps.begin()
        for place in range(start, 40):
            wanted, found = (steps.step(ids[:, place : place + 1]) for steps in (eager, still))
            assert (found - wanted).abs().max() < 1e-9 * wanted.abs().max(), place
    assert list(still._graphs) == [8, 16, 32, 40, 4]
    with pytest.raises(ValueError, match="do not fit"):
        still.step(ids[:, :1])


@pytest.mark.parametrize("home", ["host", "mapped"])
@pytest.mark.parametrize("rows", ["plain", "fp8"])
def test_memory_elsewhere_is_brought_before_it_is_read(home, rows, tmp_path):
    core, ids = core_of(), torch.randint(0, 256, (3, 20))
    core.place_memory(home, tmp_path, rows=rows)
    still, eager = replay.Replay(core, 3, 20), replay.EagerSteps(core, 3, 20, ids.device)
    assert set(still._away.buffers) == {0, 2}
    for steps in (still, eager):
        with torch.inference_mode():
            core(ids[:, :1], cache=steps.cache)
        steps.begin()
    for place in range(1, 20):
        wanted, found = (steps.step(ids[:, place : place + 1]) for steps in (eager, still))
        assert (found - wanted).abs().max() < 1e-9 * wanted.abs().max(), place


def test_a_step_that_cannot_be_captured_goes_on_eagerly(monkeypatch):
    core, ids = core_of(), torch.randint(0, 256, (1, 30))
    still, eager = replay.Replay(core, 1, 30), replay.EagerSteps(core, 1, 30, ids.device)
    for steps in (still, eager):
        with torch.inference_mode():
            core(ids[:, :9], cache=steps.cache)
        steps.begin()
    for place in range(9, 30):
        if place == 14:
            still._graphs.clear()
            monkeypatch.setattr(replay, "_captured", lambda *given: (_ for _ in ()).throw(RuntimeError("a wait")))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            wanted, found = (steps.step(ids[:, place : place + 1]) for steps in (eager, still))
        assert [str(one.message) for one in told] == (["this step is not replayed: a wait"] if place == 14 else [])
        assert (found - wanted).abs().max() < 1e-9 * wanted.abs().max(), place


def test_answers_are_the_same_and_replays_are_kept_for_the_next(monkeypatch):
    core = core_of()
    replays, stop = replay.Replays(core), frozenset({255})
    prompts = [Prompt(token_ids_BT=torch.randint(0, 255, (1, 9))) for _ in range(3)]
    plain = [list(generate(core, prompt, max_tokens=20, stop=stop)) for prompt in prompts]
    assert [list(generate(core, prompt, max_tokens=20, stop=stop, replays=replays)) for prompt in prompts] == plain
    (kept,) = replays._free.values()
    begun = generate(core, prompts[0], max_tokens=20, stop=stop, replays=replays)
    assert next(begun) == plain[0][0] and not replays._free  # at work: a second prompt meanwhile gets another
    assert list(generate(core, prompts[1], max_tokens=20, stop=stop, replays=replays)) == plain[1]
    begun.close()
    assert list(replays._free.values())[-1] is kept
    rows = [Row(prompt=prompt, max_tokens=5 + 7 * place) for place, prompt in enumerate(prompts)]
    written = generate_together(core, rows, stop=stop, replays=replays)
    assert written == [plain[0][:5], plain[1][:12], plain[2][:19]]
    assert replay.replays_of(core) is None
    monkeypatch.setenv("DSV4_REPLAY", "1")
    assert replay.replays_of(core) is None  # not on CUDA


def test_what_has_no_static_step_says_so():
    core = core_of()
    with pytest.raises(ValueError, match="rewind=0"):
        StaticCache(core.new_cache(1, 20, rewind=2), torch.zeros(1, dtype=torch.long))
    compressed = dataclasses.replace(micro(), reach=("compressed_sparse",) * 3, engram=None)
    cache = LanguageCore.from_config(compressed).new_cache(1, 20)
    with pytest.raises(ValueError, match="without compressed windows"):
        StaticCache(cache, torch.zeros(1, dtype=torch.long))
