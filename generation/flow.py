"""Train and sample the head: a straight flow from noise to pixels, whose network predicts the clean frames.

B rows, F frames, H and W pixels, T prompt tokens, S condition tokens. Frames lie in -1..1; the noise level sigma is 1
for pure noise and 0 for clean frames: noisy = (1 - sigma) * clean + sigma * noise.
Sources: rectified flow (arXiv 2209.03003); JiT (arXiv 2511.13720) for predicting the clean frames under the loss of
the velocity; classifier-free guidance (arXiv 2207.12598). We differ from JiT in shifting a clip's levels towards
noise: its frames show the same thing many times, and at a picture's levels they give it away without the words.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .connector import Condition
from .head import check_size

if TYPE_CHECKING:
    from .head import JointHead

# Mean and spread of the normal whose sigmoid is the noise level.
LEVELS: dict[str, tuple[float, float]] = {"picture": (0.8, 0.8), "clip": (1.8, 1.0)}
DROP = 0.1
CLEAN_FIRST = 0.2
_LEAST = 0.05  # the velocity divides by sigma; below this level its weight stops growing

OnStep = Callable[[int, int, Tensor], None]


def noise_levels(
    kind: str, rows: int, *, generator: torch.Generator | None = None, device: str | torch.device = "cpu"
) -> Tensor:
    """Draw `rows` noise levels for training on kind "picture" or "clip", [B] in 0..1; a generator fits the device."""
    if kind not in LEVELS:
        near = difflib.get_close_matches(kind, LEVELS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"unknown kind of noise levels '{kind}'{hint} Kinds: {', '.join(LEVELS)}")
    mean, spread = LEVELS[kind]
    return torch.sigmoid(torch.randn(rows, generator=generator, device=device) * spread + mean)


def add_noise(clean_B3FHW: Tensor, noise_B3FHW: Tensor, sigma_B: Tensor, clean_first_B: Tensor | None = None) -> Tensor:
    """The frames at noise level sigma; frame 0 of the rows in bool `clean_first_B` stays clean."""
    sigma_BF = _per_frame(sigma_B, clean_first_B, clean_B3FHW.shape[2])
    return torch.lerp(clean_B3FHW, noise_B3FHW, sigma_BF[:, None, :, None, None])


def flow_loss(
    head: JointHead,
    clean_B3FHW: Tensor,
    condition: Condition,
    *,
    sigma_B: Tensor,
    noise_B3FHW: Tensor,
    clean_first_B: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the velocity, over frames that hold noise; all chances are drawn by the caller.

    Velocity is (noisy - x) / sigma, so the error of the predicted x weighs 1 / sigma squared.
    Nothing here depends on data: it compiles to one graph.
    """
    clean_B3FHW = clean_B3FHW.float()
    frames = clean_B3FHW.shape[2]
    noisy_B3FHW = add_noise(clean_B3FHW, noise_B3FHW.float(), sigma_B, clean_first_B)
    first: Any = False if clean_first_B is None else clean_first_B
    predicted_B3FHW = head(noisy_B3FHW, sigma_B, condition.tokens_BSC, condition.mask_BS, clean_first=first)
    error_BF = (predicted_B3FHW.float() - clean_B3FHW).square().mean(dim=(1, 3, 4))
    counts_BF = _per_frame(torch.ones_like(sigma_B), clean_first_B, frames)
    error_B = (error_BF * counts_BF).sum(1) / counts_BF.sum(1)
    return (error_B / sigma_B.clamp(min=_LEAST).square()).mean()


def train_loss(
    head: JointHead,
    clean_B3FHW: Tensor,
    taps: tuple[Tensor, ...],
    mask_BT: Tensor,
    *,
    generator: torch.Generator | None = None,
    drop: float = DROP,
    clean_first: float = CLEAN_FIRST,
) -> Tensor:
    """The loss of one batch, chances included: noise, levels, rows without a prompt, clips with their first frame.

    One frame is a picture, more are a clip. `generator` lives on the frames' device.
    """
    rows, _, frames = clean_B3FHW.shape[:3]
    device = clean_B3FHW.device

    def chance(share: float) -> Tensor:
        return torch.rand(rows, generator=generator, device=device) < share

    kind = "picture" if frames == 1 else "clip"
    sigma_B = noise_levels(kind, rows, generator=generator, device=device)
    noise_B3FHW = torch.randn(clean_B3FHW.shape, generator=generator, device=device)
    condition = head.condition(taps, mask_BT, chance(drop))
    first_B = chance(clean_first) if frames > 1 else None
    return flow_loss(head, clean_B3FHW, condition, sigma_B=sigma_B, noise_B3FHW=noise_B3FHW, clean_first_B=first_B)


@torch.no_grad()
def sample_flow(
    head: JointHead,
    condition: Condition,
    *,
    shape: tuple[int, int, int],
    steps: int = 8,
    guidance: float = 2.0,
    seeds: Sequence[int] | None = None,
    noise_B3FHW: Tensor | None = None,
    first_frame: Tensor | None = None,
    on_step: OnStep | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Tensor:
    """Make frames [B,3,F,H,W] for the condition's B rows by Euler steps from noise.

    Args:
        shape: frames, height and width; one frame is a picture.
        guidance: 1 follows the condition alone; above, the difference to "no prompt" is taken that many times.
        seeds: one number a row; a row's noise comes from its own seed, drawn on the CPU, so neither its neighbours
            nor the device change it. Or give `noise_B3FHW` itself.
        first_frame: [B,3,H,W] in -1..1, kept exactly as frame 0 while the others move on from it.
        on_step: called after every step with its number from 1, the number of steps, and the frames as far as known.
        cancelled: asked before every step; when true, the frames as far as known are returned (grey before the first).

    Raises ValueError for a shape, a count or a number that cannot be.
    """
    rows, device = condition.tokens_BSC.shape[0], condition.tokens_BSC.device
    check_size(head.config, *shape)
    if steps < 1 or guidance < 1:
        raise ValueError(f"steps and guidance must be at least 1, got steps {steps}, guidance {guidance}")
    state_B3FHW = _start(rows, shape, seeds, noise_B3FHW).to(device)
    first_B3HW = checked_first(first_frame, rows, shape)
    guided = guided_condition(head, condition) if guidance != 1 else condition
    clean_B3FHW = torch.zeros_like(state_B3FHW)
    for step in range(steps):
        if cancelled is not None and cancelled():
            break
        sigma, after = 1 - step / steps, 1 - (step + 1) / steps
        state_B3FHW = keep_first(state_B3FHW, first_B3HW)
        clean_B3FHW = predict(head, state_B3FHW, sigma, guided, guidance, clean_first=first_B3HW is not None)
        clean_B3FHW = keep_first(clean_B3FHW, first_B3HW)
        # The straight line to the predicted frames, followed as far as the next level.
        state_B3FHW = clean_B3FHW + (after / sigma) * (state_B3FHW - clean_B3FHW)
        if on_step is not None:
            on_step(step + 1, steps, clean_B3FHW)
    return clean_B3FHW


def guided_condition(head: JointHead, condition: Condition) -> Condition:
    """The condition's rows, and behind them as many rows of "no prompt"."""
    null = head.connector.null(*condition.mask_BS.shape)
    tokens = torch.cat([condition.tokens_BSC, null.tokens_BSC.to(condition.tokens_BSC.dtype)])
    return Condition(tokens, torch.cat([condition.mask_BS, null.mask_BS]))


def predict(
    head: JointHead, state_B3FHW: Tensor, sigma: float, condition: Condition, guidance: float, *, clean_first: bool
) -> Tensor:
    """The clean frames as the head sees them from `state_B3FHW` at level sigma, guided if the condition is."""
    rows = state_B3FHW.shape[0]
    doubled = condition.tokens_BSC.shape[0] == 2 * rows
    given = torch.cat([state_B3FHW, state_B3FHW]) if doubled else state_B3FHW
    # One level for all rows, as one row: how products of a few rows round depends on how many there are.
    sigma_B = torch.full((1,), sigma, device=given.device)
    seen = head(given, sigma_B, condition.tokens_BSC, condition.mask_BS, clean_first=clean_first).float()
    if not doubled:
        return seen
    told, untold = seen.chunk(2)
    return untold + guidance * (told - untold)


def start_noise(seeds: Sequence[int], shape: tuple[int, int, int]) -> Tensor:
    """Normal noise [B,3,F,H,W] on the CPU, each row from its own seed."""
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    return torch.stack([torch.randn(3, *shape, generator=generator) for generator in generators])


def _start(rows: int, shape: tuple[int, int, int], seeds: Sequence[int] | None, noise: Tensor | None) -> Tensor:
    if (seeds is None) == (noise is None):
        raise ValueError("give either seeds or noise_B3FHW")
    if noise is None:
        assert seeds is not None
        if len(seeds) != rows:
            raise ValueError(f"the condition has {rows} rows, but there are {len(seeds)} seeds")
        return start_noise(seeds, shape)
    if tuple(noise.shape) != (rows, 3, *shape):
        raise ValueError(f"noise_B3FHW must have shape {[rows, 3, *shape]}, got {list(noise.shape)}")
    return noise.float()


def checked_first(first_frame: Tensor | None, rows: int, shape: tuple[int, int, int]) -> Tensor | None:
    """The first frame as float32; raises ValueError when it fits neither the rows nor the shape."""
    if first_frame is None:
        return None
    frames, height, width = shape
    if frames < 2:
        raise ValueError("a first frame needs a clip of two frames or more")
    if tuple(first_frame.shape) != (rows, 3, height, width):
        raise ValueError(f"first_frame must have shape {[rows, 3, height, width]}, got {list(first_frame.shape)}")
    return first_frame.float()


def keep_first(frames_B3FHW: Tensor, first_B3HW: Tensor | None) -> Tensor:
    """The frames with frame 0 put back to the given one, if there is one."""
    if first_B3HW is None:
        return frames_B3FHW
    return torch.cat([first_B3HW[:, :, None].to(frames_B3FHW.device), frames_B3FHW[:, :, 1:]], dim=2)


def _per_frame(value_B: Tensor, clean_first_B: Tensor | None, frames: int) -> Tensor:
    """`value_B` for every frame, [B,F], with 0 at frame 0 of the rows in `clean_first_B`."""
    value_BF = value_B[:, None].expand(-1, frames)
    if clean_first_B is None:
        return value_BF
    is_first_F = torch.arange(frames, device=value_B.device) == 0
    return value_BF * (1 - clean_first_B[:, None].to(value_B.dtype) * is_first_F.to(value_B.dtype))
