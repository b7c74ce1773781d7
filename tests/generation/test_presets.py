"""Every preset runs through the very pipeline class that it names, tiny and random, from a folder and no network."""

from __future__ import annotations

import json

import numpy as np
import pytest

from generation import PRESETS, Foreign
from generation.presets import arguments, check_folder, plan, preset, snapped
from tests.generation.tiny_pipelines import MAKERS, saved


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder a preset, written when it is first asked for."""
    root = tmp_path_factory.mktemp("presets")

    def folder(name: str):
        if not (root / name).is_dir():
            saved(name, root / name)
        return root / name

    return folder


def test_every_preset_has_a_tiny_pipeline_and_a_licence():
    assert set(PRESETS) == set(MAKERS)
    assert all(row.licence and row.repo.count("/") == 1 and row.size[0] % row.multiple == 0 for row in PRESETS.values())
    assert all(row.frames % row.every == 1 % row.every for row in PRESETS.values())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_loads_from_its_folder_and_makes_what_it_is_for(folders, name):
    loaded = Foreign.load(name, folders(name), device="cpu")
    steps = []
    made = loaded.make("a cat", width=70, height=64, frames=6, steps=2, on_step=lambda *now: steps.append(now))
    frames = {"wan": 5, "hun": 5, "ltx": 9}.get(name[:3], 1)
    assert made.frames_FHW3.shape == (frames, 64, 64, 3) and made.frames_FHW3.dtype == np.uint8
    assert made.frames_FHW3.std() > 1 and not made.stopped and made.prompt == "a cat"
    assert any("width 70 became 64" in note for note in made.notes) and any("6 frames" in note for note in made.notes)
    if name.startswith("hunyuan"):  # its pipeline has no callback
        assert not steps and "cannot be stopped" in PRESETS[name].note
    else:
        assert steps == [(1, 2), (2, 2)]
    assert PRESETS[name].licence in loaded.plan.words


def test_one_seed_gives_one_picture_and_a_writer_can_be_switched_on(folders):
    loaded = Foreign.load("z-image-turbo", folders("z-image-turbo"), device="cpu")
    size = {"width": 32, "height": 32, "steps": 1}
    first, again = (loaded.make("a cat", seed=3, **size).frames_FHW3 for _ in range(2))
    other = loaded.make("a cat", seed=4, **size).frames_FHW3
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert loaded.make("a cat", writer=lambda words: f"{words} on the moon", **size).prompt == "a cat on the moon"


def test_a_run_stops_between_steps(folders):
    loaded = Foreign.load("wan2.1-1.3b", folders("wan2.1-1.3b"), device="cpu")
    steps = []
    made = loaded.make(
        "a cat", width=32, height=32, frames=1, steps=6,
        on_step=lambda step, total: steps.append(step), cancelled=lambda: len(steps) >= 2,
    )  # fmt: skip
    assert made.stopped and steps == [1, 2]


def test_a_black_result_is_said(folders):
    loaded = Foreign.load("z-image-turbo", folders("z-image-turbo"), device="cpu")
    for parameter in loaded.pipe.vae.decoder.parameters():
        parameter.data.fill_(float("nan"))
    made = loaded.make("a cat", width=32, height=32, steps=1)
    assert any("black or not a number" in note for note in made.notes)


def test_sizes_and_frames_snap_and_say_so():
    assert snapped(preset("wan2.2-ti2v-5b")) == (1280, 704, 121, [])
    width, height, frames, told = snapped(preset("ltx-video"), 500, 333, 24)
    assert (width, height, frames) == (512, 320, 25) and len(told) == 3
    assert snapped(preset("z-image-turbo"), 1, 9)[:3] == (16, 16, 1)
    for wrong in ({"width": 0}, {"frames": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            snapped(preset("ltx-video"), **wrong)
    with pytest.raises(ValueError, match="did you mean 'qwen-image'"):
        preset("qwen-imge")


def test_guidance_goes_by_each_pipelines_own_word():
    accepted = dict.fromkeys(["num_inference_steps", "true_cfg_scale", "guidance_scale", "negative_prompt"])
    given, told = arguments(preset("qwen-image"), accepted, steps=None, guidance=None)
    assert given == {"num_inference_steps": 50, "true_cfg_scale": 4.0, "negative_prompt": " "} and not told
    given, told = arguments(preset("z-image-turbo"), accepted, steps=3, guidance=None)
    assert given == {"num_inference_steps": 3, "guidance_scale": 0.0}
    assert "not used" in arguments(preset("hunyuanvideo-1.5"), accepted, steps=1, guidance=2)[1][0]
    with pytest.raises(ValueError, match="takes no 'true_cfg_scale'"):
        arguments(preset("qwen-image"), {"num_inference_steps": 0, "negative_prompt": 0}, steps=None, guidance=None)


def test_memory_is_estimated_from_the_files_and_the_first_way_that_fits_is_taken(folders):
    row, folder = preset("flux2-klein-4b"), folders("flux2-klein-4b")
    parts = check_folder(row, folder)
    assert set(parts) == {"text_encoder", "transformer", "vae"}
    assert parts["vae"] == (folder / "vae" / "diffusion_pytorch_model.safetensors").stat().st_size
    total, largest = sum(parts.values()), max(parts.values())
    for room, way in ((2 * total, "whole"), (1.3 * largest, "part by part"), (0.7 * largest, "layers in 8 bits")):
        assert plan(row, folder, int(room)).way == way
    tight = plan(row, folder, 10)
    assert tight.way == "layer by layer" and "may not fit" in tight.words


def test_what_is_missing_is_named_with_how_to_get_it(tmp_path, folders):
    import shutil

    row = preset("z-image-turbo")
    with pytest.raises(FileNotFoundError, match="no model_index.json in .*hf download Tongyi-MAI/Z-Image-Turbo"):
        Foreign.load("z-image-turbo", tmp_path)
    with pytest.raises(ValueError, match="holds a QwenImagePipeline; z-image-turbo is a ZImagePipeline"):
        check_folder(row, folders("qwen-image"))
    copy = tmp_path / "copy"
    shutil.copytree(folders("z-image-turbo"), copy)
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no \.safetensors in .*vae"):
        check_folder(row, copy)
    index = copy / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    with pytest.raises(FileNotFoundError, match="2 of 2 files are missing in .*transformer', first one.safetensors"):
        check_folder(row, copy)
    shutil.rmtree(copy / "transformer")
    with pytest.raises(FileNotFoundError, match="the part 'transformer' is missing"):
        check_folder(row, copy)
