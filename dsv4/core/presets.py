"""Our own sizes, from a test-sized core to one with a trillion parameters."""

from __future__ import annotations

from dsv4.core.config import AttentionConfig, CoreConfig, EngramConfig, ExpertsConfig, LanesConfig


def micro(vocab_size: int = 256) -> CoreConfig:
    """Every mechanism in three layers, for tests."""
    return CoreConfig(
        vocab_size=vocab_size,
        hidden=64,
        reach=("sparse", "sliding", "full"),
        attention=AttentionConfig(
            heads=4, entry=32, rotated=16, q_rank=48, groups=2, o_rank=24, window=8, top_k=12,
            index_heads=2, index_size=16, index_rotated=8,
        ),
        experts=ExpertsConfig(count=4, chosen=2, inner=24, shared_inner=48),
        engram=EngramConfig(layers=(0, 2), rows=200, width=8, heads=2),
    )  # fmt: skip


def nano(vocab_size: int = 8192) -> CoreConfig:
    """The shipped model: about 13M parameters and 10M of memory rows."""
    return CoreConfig(
        vocab_size=vocab_size,
        hidden=384,
        reach=("sparse", "sparse", "sliding", "sparse", "sparse", "sliding"),
        attention=AttentionConfig(
            heads=6, entry=128, rotated=32, q_rank=192, groups=2, o_rank=96, window=128, top_k=512,
            index_heads=4, index_size=32, index_rotated=16,
        ),
        experts=ExpertsConfig(count=8, chosen=2, inner=64, shared_inner=512),
        engram=EngramConfig(layers=(1, 3), rows=20_000, width=32),
    )  # fmt: skip


def small(vocab_size: int = 32_768) -> CoreConfig:
    """About 0.4B parameters, 0.1B of them memory rows: one accelerator."""
    return CoreConfig(
        vocab_size=vocab_size,
        hidden=1024,
        reach=_every_fourth_slides(12),
        attention=AttentionConfig(
            heads=16, entry=128, rotated=32, q_rank=384, groups=4, o_rank=192, window=128, top_k=1024,
            index_heads=8, index_size=64, index_rotated=32,
        ),
        experts=ExpertsConfig(count=16, chosen=2, inner=256, shared_inner=1536),
        engram=EngramConfig(layers=(1, 6), rows=100_000, width=64),
    )  # fmt: skip


def lite(vocab_size: int = 129_280) -> CoreConfig:
    """About 284B parameters, 13B active."""
    return CoreConfig(
        vocab_size=vocab_size,
        hidden=4096,
        reach=_every_fourth_slides(43),
        attention=AttentionConfig(
            heads=64, entry=512, rotated=64, q_rank=1024, groups=8, o_rank=1024, window=128, top_k=2048,
            index_heads=32, index_size=128, index_rotated=64,
        ),
        experts=ExpertsConfig(count=200, chosen=6, inner=2048, shared_inner=2048),
        lanes=LanesConfig(count=4),
        engram=EngramConfig(layers=(1, 14), rows=14_300_000, width=128, heads=8),
        tied=False,
    )  # fmt: skip


def flagship(vocab_size: int = 129_280) -> CoreConfig:
    """About 1.0T parameters, 32 to 40B active, memory a fifth to a quarter of what is sparse."""
    return CoreConfig(
        vocab_size=vocab_size,
        hidden=7168,
        reach=_every_fourth_slides(61),
        attention=AttentionConfig(
            heads=128, entry=512, rotated=64, q_rank=1536, groups=16, o_rank=1024, window=128, top_k=2048,
            index_heads=64, index_size=128, index_rotated=64,
        ),
        experts=ExpertsConfig(count=284, chosen=6, inner=2048, shared_inner=2048),
        lanes=LanesConfig(count=4),
        engram=EngramConfig(layers=(1, 15), rows=26_000_000, width=256, heads=8),
        tied=False,
    )  # fmt: skip


def _every_fourth_slides(layers: int) -> tuple[str, ...]:
    return tuple("sliding" if layer % 4 == 3 else "sparse" for layer in range(layers))
