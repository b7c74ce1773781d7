"""The head as a diffusers pipeline: same frames as `sample_flow`, saved and read, shown and stopped at every step."""

from __future__ import annotations

import json

import pytest
import torch

from generation import HeadPipeline, JointHead, JointHeadConfig, sample_flow


@pytest.fixture(scope="module")
def head() -> JointHead:
    torch.manual_seed(0)
    made = JointHead(JointHeadConfig.micro()).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


@pytest.fixture(scope="module")
def pipe(head) -> HeadPipeline:
    return HeadPipeline.from_head(head)


TAPS = tuple(torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(layer)) for layer in range(3))
CALL = {"height": 16, "width": 16, "num_inference_steps": 4, "seeds": [1, 2], "output_type": "pt"}


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_it_makes_what_the_flow_makes(head, pipe, guidance):
    mask_BT = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], dtype=torch.bool)
    first = torch.rand(2, 3, 16, 16)
    made = pipe(TAPS, mask_BT, num_frames=3, guidance_scale=guidance, first_frame=first, **CALL).frames
    wanted = sample_flow(
        head, head.condition(TAPS, mask_BT), shape=(3, 16, 16), steps=4, guidance=guidance, seeds=[1, 2],
        first_frame=first,
    )  # fmt: skip
    torch.testing.assert_close(made[:, :, 1:], wanted[:, :, 1:], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(made[:, :, 0], first, atol=1e-6, rtol=0)


def test_it_is_saved_and_read_also_where_the_package_has_another_name(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["connector"][0] = "dsv4.generation.pipeline_of_another_time"
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    again = HeadPipeline.from_pretrained(tmp_path)
    assert torch.equal(again(TAPS, **CALL).frames, pipe(TAPS, **CALL).frames)
    assert HeadPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16).transformer.dtype is torch.bfloat16
    (tmp_path / "transformer" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="no config.json in"):
        HeadPipeline.from_pretrained(tmp_path)


def test_a_callback_sees_every_step_and_can_stop(pipe):
    seen = []

    def look(pipeline, step, time, told):
        seen.append(told)
        pipeline._interrupt = step == 1
        return {}

    made = pipe(
        TAPS, **CALL, callback_on_step_end=look, callback_on_step_end_tensor_inputs=["latents", "preview"]
    ).frames
    assert len(seen) == 2 and pipe.interrupt
    assert torch.equal(made, seen[-1]["preview"])
    assert not torch.equal(seen[0]["latents"], seen[1]["latents"])


def test_a_callback_can_change_the_state(pipe):
    plain = pipe(TAPS, **CALL).frames
    moved = pipe(TAPS, **CALL, callback_on_step_end=lambda *told: {"latents": told[3]["latents"] * 0}).frames
    assert not torch.equal(plain, moved)


def test_it_gives_images_arrays_and_tuples(pipe):
    call = {**CALL, "output_type": "pil"}
    images = pipe(TAPS, **call).frames
    assert [len(row) for row in images] == [1, 1] and images[0][0].size == (16, 16)
    array = pipe(TAPS, **{**CALL, "output_type": "np"}, return_dict=False)[0]
    assert array.shape == (2, 1, 16, 16, 3) and 0 <= array.min() and array.max() <= 1


def test_what_cannot_be_is_said(pipe):
    with pytest.raises(ValueError, match="pil, np, pt"):
        pipe(TAPS, output_type="latent")
    with pytest.raises(ValueError, match="not 'noise'"):
        pipe(TAPS, callback_on_step_end_tensor_inputs=["noise"])
    with pytest.raises(ValueError, match="2 prompts, but 1 seeds"):
        pipe(TAPS, seeds=[1])
    with pytest.raises(ValueError, match="multiple of 8"):
        pipe(TAPS, height=15)
