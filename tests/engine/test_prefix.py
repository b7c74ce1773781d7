"""The prefix cache: resuming equals reading cold to the bit, for every kind of state; keys, budgets, disk and meter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image as Pixels

from dsv4.core import presets
from dsv4.core.config import (
    AttentionConfig,
    CoreConfig,
    ExpertsConfig,
    HeadsConfig,
    LanesConfig,
    LatentConfig,
    SharingConfig,
)
from dsv4.core.model import LanguageCore
from dsv4.core.snapshot import put_back, take
from dsv4.engine.generate import Prompt, generate
from dsv4.engine.prefix import PrefixCache
from dsv4.errors import InputError
from dsv4.finish import remembered
from dsv4.messages import image
from dsv4.studio import Studio

PLAIN = dict(vocab_size=64, hidden=32, tied=False, embed_norm=False)
EXPERTS = ExpertsConfig(count=4, chosen=2, inner=16, shared_inner=16)
V4 = CoreConfig(
    **PLAIN, reach=("sliding", "compressed_sparse", "heavily_compressed"), lanes=LanesConfig(count=2),
    attention=AttentionConfig(heads=2, entry=16, rotated=8, q_rank=16, groups=2, o_rank=8, window=8, top_k=4,
                              index_heads=2, index_size=16, index_rotated=8, heavy=8),
    experts=replace(EXPERTS, limit=10.0),
)  # fmt: skip
CONFIGS = {
    "ours": presets.micro(64),
    "compressed": V4,
    "shared entries": replace(V4, reach=("sliding", "shared_compressed", "shared_compressed"), attention=replace(
        V4.attention, sharing=SharingConfig(ratios=(0, 3, 1), sources=(1, 2), choosers=(1, 2)))),
    "latent": CoreConfig(**PLAIN, reach=("sparse", "full"), lanes=LanesConfig(count=1), experts=EXPERTS,
                         attention=LatentConfig(heads=2, latent=16, plain=8, rotated=8, value=8, q_rank=16, top_k=6,
                                                index_heads=2, index_size=16)),
    "heads": CoreConfig(**PLAIN, reach=("full",), lanes=LanesConfig(count=1), experts=EXPERTS,
                        attention=HeadsConfig(heads=2, kv_heads=1, size=16)),
}  # fmt: skip
CLOSER = 63


def core_of(name):
    torch.manual_seed(0)
    return LanguageCore.from_config(CONFIGS[name]).eval()


def ids(length, seed=0):
    return torch.randint(0, 60, (1, length), generator=torch.Generator().manual_seed(seed))


def written(core, prompt, prefixes, told=None):
    return list(generate(core, prompt, max_tokens=12, stop=frozenset(), prefixes=prefixes, on_read=told))


@pytest.mark.parametrize("rows", ["plain", "fp8"])
@pytest.mark.parametrize("name", CONFIGS)
def test_resuming_is_reading_cold_to_the_bit(name, rows):
    if rows == "fp8" and name == "heads":
        rows = "plain"
    core, long = core_of(name), ids(61)
    warm = PrefixCache("m", every=16)
    small = core.new_cache(1, 40, rows=rows)
    warm.read(core, Prompt(token_ids_BT=long[:, :40]), small)  # snapshots at 16, 32 and 40
    caches = [core.new_cache(1, 80, rows=rows) for _ in range(2)]  # of another size than the one that was read into
    cold, none = PrefixCache("m", every=16).read(core, Prompt(token_ids_BT=long), caches[0])
    resumed, reused = warm.read(core, Prompt(token_ids_BT=long), caches[1])
    assert (none, reused) == (0, 32) and torch.equal(cold, resumed)
    one, other = take(caches[0]), take(caches[1])
    assert set(one) == set(other) and all(torch.equal(one[key], other[key]) for key in one)
    with torch.no_grad():
        for token in range(12):
            logits = [core(torch.tensor([[token]]), cache=cache).logits_BTV for cache in caches]
            assert torch.equal(*logits)
        whole = core(long).logits_BTV[:, -1]
    assert torch.allclose(whole, cold[:, -1], atol=1e-4) or rows == "fp8"


def test_keys_in_eight_bits_travel_with_their_scales():
    core, long, prefixes = core_of("ours"), ids(40), PrefixCache("m", every=16)
    caches = [core.new_cache(1, 60, index_keys="int8") for _ in range(2)]
    cold, resumed = (prefixes.read(core, Prompt(token_ids_BT=long), cache) for cache in caches)
    assert (cold[1], resumed[1]) == (0, 40) and torch.equal(cold[0], resumed[0])
    with torch.no_grad():
        for token in range(8):
            assert torch.equal(*(core(torch.tensor([[token]]), cache=cache).logits_BTV for cache in caches))
    assert any(name.startswith("scales.") for name in take(caches[1]))
    plain = core.new_cache(1, 60)
    assert prefixes.read(core, Prompt(token_ids_BT=long), plain)[1] == 0, "keys of another format are no hit"


def test_a_turn_later_only_what_is_new_is_read():
    core, prefixes = core_of("ours"), PrefixCache("m", closers=frozenset({CLOSER}))
    first = torch.cat((ids(20), torch.tensor([[CLOSER]])), 1)
    told = []
    answer = written(core, Prompt(token_ids_BT=first), prefixes, told.append)
    again = written(core, Prompt(token_ids_BT=first), prefixes, told.append)
    second = torch.cat((first, torch.tensor([answer]), ids(9, seed=1), torch.tensor([[CLOSER]])), 1)
    later = written(core, Prompt(token_ids_BT=second), prefixes, told.append)
    assert answer == again and told == [0, 21, 21]
    assert later == written(core, Prompt(token_ids_BT=second), PrefixCache("m", closers=frozenset({CLOSER})))
    meter = prefixes.meter
    assert (meter.prompts, meter.hits, meter.reused) == (3, 2, 42) and meter.asked == 21 + 21 + second.shape[1]
    assert meter.rate == 42 / meter.asked and meter.ram > 0


def test_another_model_picture_or_token_never_hits():
    core, prompt = core_of("ours"), Prompt(token_ids_BT=ids(24))
    prefixes = PrefixCache("one", every=8)
    read = lambda cached, given: cached.read(core, given, core.new_cache(1, 40))[1]  # noqa: E731
    assert read(prefixes, prompt) == 0 and read(prefixes, prompt) == 24
    assert read(PrefixCache("other", every=8), prompt) == 0
    changed = prompt.token_ids_BT.clone()
    changed[0, 10] += 1
    assert read(prefixes, Prompt(token_ids_BT=changed)) == 8
    embeds = core.embed(prompt.token_ids_BT).detach().clone()
    memory = prompt.token_ids_BT.clone()
    memory[0, 4:12] = -1  # a picture's places
    shown = [embeds.clone(), embeds.clone()]
    shown[1][0, 11] += 1
    given = [Prompt(token_ids_BT=prompt.token_ids_BT, embeds_BTD=one, memory_ids_BT=memory) for one in shown]
    assert [read(prefixes, one) for one in (given[0], given[0], given[1])] == [0, 24, 8]
    with core.zero_memory():
        assert read(prefixes, prompt) == 0


def test_the_disk_remembers_within_its_budget(tmp_path):
    core, prompt = core_of("compressed"), Prompt(token_ids_BT=ids(30))
    first = PrefixCache("m", every=10, folder=tmp_path)
    cold, _ = first.read(core, prompt, core.new_cache(1, 40))
    assert len(list(tmp_path.glob("*.safetensors"))) == 3 and first.meter.disk > 0
    again, reused = PrefixCache("m", every=10, folder=tmp_path).read(core, prompt, core.new_cache(1, 50))
    assert reused == 30 and torch.equal(cold, again)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])  # broken files are no answer
    assert PrefixCache("m", every=10, folder=tmp_path).read(core, prompt, core.new_cache(1, 40))[1] == 0
    size = max(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    tight = PrefixCache("m", every=10, folder=tmp_path, disk=2 * size, ram=2 * size)
    for seed in range(4):
        tight.read(core, Prompt(token_ids_BT=ids(30, seed=seed)), core.new_cache(1, 40))
        assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) <= 2 * size
        assert 0 < tight.meter.ram <= 2 * size
    nothing = PrefixCache("m", every=10, ram=0)
    assert [nothing.read(core, prompt, core.new_cache(1, 40))[1] for _ in range(2)] == [0, 0]
    with pytest.raises(InputError, match="budgets at least 0"):
        PrefixCache("m", ram=-1)


def test_a_snapshot_of_another_kind_is_refused():
    core = core_of("ours")
    cache = core.new_cache(1, 30)
    with torch.no_grad():
        core(ids(20), cache=cache)
    held = take(cache)
    with pytest.raises(ValueError, match="do not fit"):
        put_back(core.new_cache(1, 10), held, 20)
    with pytest.raises(ValueError, match="empty cache"):
        put_back(cache.fork(), held, 5)
    with pytest.raises(ValueError, match="another format"):
        put_back(core.new_cache(1, 30, rows="fp8"), held, 20)


def test_a_conversation_of_the_studio_is_remembered():
    studio = Studio.load("nano")
    picture = image(Pixels.new("RGB", (64, 64), "red"))

    def asked(question, *shown):
        stream = studio.chat(question, *shown, max_tokens=6)
        text = "".join(stream)
        return text, stream.reply.usage

    first, again = asked("What is a heron?"), asked("What is a heron?")
    assert (first[1].cached, again[1].cached) == (0, again[1].read) and first[0] == again[0]
    seen, other = asked("What is in this picture?", picture), asked("How many things are there?", picture)
    assert seen[1].cached == 0 and other[1].cached >= other[1].pictures > 0
    studio.prefixes = None
    assert asked("What is a heron?")[0] == first[0]
    studio.prefixes = remembered(studio.model, "cold")
    assert asked("How many things are there?", picture)[0] == other[0]
