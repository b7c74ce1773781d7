"""Tiny random pipelines of the very classes that the presets name, to be saved to folders; nothing is fetched.

Every shape here is the smallest that the class accepts. Source: the constructors' own checks.
"""

from __future__ import annotations

from typing import Any

import diffusers
import torch
import transformers

WORDS = "a red cat on the moon <pad> </s> <bos> <|im_end|>".split()
CHAT = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


def tokenizer() -> Any:
    """A few words and letters, behind transformers' own door."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = [chr(code) for code in range(33, 127)]
    vocab = {word: place for place, word in enumerate(dict.fromkeys([*WORDS, *letters, "<unk>"]))}
    made = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", bos_token="<bos>", unk_token="<unk>"
    )
    fast.chat_template = CHAT
    return fast


def _qwen3(layers: int) -> Any:
    config = transformers.Qwen3Config(
        hidden_size=16, intermediate_size=16, num_hidden_layers=layers, num_attention_heads=2, head_dim=8,
        num_key_value_heads=2, vocab_size=160, max_position_embeddings=1024,
    )  # fmt: skip
    return config


def _t5(kind: str) -> Any:
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=160, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4, feed_forward_proj="gated-gelu"
    )
    return getattr(transformers, f"{kind}EncoderModel")(config)


def _kl(channels: int) -> dict[str, Any]:
    return dict(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), layers_per_block=1, latent_channels=channels, norm_num_groups=4,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def z_image() -> Any:
    """ZImagePipeline."""
    transformer = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=16, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2,
        n_kv_heads=2, cap_feat_dim=16, axes_dims=[8, 4, 4], axes_lens=[512, 64, 64],
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(**_kl(16), scaling_factor=0.36, shift_factor=0.11)
    return diffusers.ZImagePipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(), vae, transformers.Qwen3Model(_qwen3(2)), tokenizer(), transformer
    )


def flux2_klein() -> Any:
    """Flux2KleinPipeline: its taps are layers 9, 18 and 27, so its reader has 28."""
    transformer = diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=48, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLFlux2(**_kl(4))
    return diffusers.Flux2KleinPipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(), vae, transformers.Qwen3ForCausalLM(_qwen3(28)), tokenizer(),
        transformer, is_distilled=True,
    )  # fmt: skip


def wan(two_in_one: bool) -> Any:
    """WanPipeline, with the timestep a token of TI2V or without."""
    transformer = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=16, out_channels=16,
        text_dim=32, freq_dim=16, ffn_dim=32, num_layers=1, rope_max_seq_len=64,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    return diffusers.WanPipeline(
        tokenizer=tokenizer(), text_encoder=_t5("UMT5"), vae=vae, transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), expand_timesteps=two_in_one,
    )  # fmt: skip


def ltx() -> Any:
    """LTXPipeline."""
    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, patch_size=1, patch_size_t=1, num_attention_heads=4, attention_head_dim=8,
        cross_attention_dim=32, num_layers=1, caption_channels=32,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLLTXVideo(
        latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1,) * 5, decoder_layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True, True, False, False), decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5, upsample_residual=(False,) * 4, upsample_factor=(1,) * 4,
        timestep_conditioning=False, patch_size=1, patch_size_t=1, encoder_causal=True, decoder_causal=False,
    )  # fmt: skip
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    return diffusers.LTXPipeline(diffusers.FlowMatchEulerDiscreteScheduler(), vae, _t5("T5"), tokenizer(), transformer)


def sana_sprint() -> Any:
    """SanaSprintPipeline."""
    transformer = diffusers.SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=4,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=8,
        sample_size=32, qk_norm="rms_norm_across_heads", guidance_embeds=True,
    )  # fmt: skip
    blocks = ("ResBlock", "EfficientViTBlock")
    vae = diffusers.AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_types=blocks, decoder_block_types=blocks,
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
        downsample_block_type="conv", upsample_block_type="interpolate", decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
    )  # fmt: skip
    config = transformers.Gemma2Config(
        head_dim=4, hidden_size=8, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1,
        num_key_value_heads=2, vocab_size=160, attn_implementation="eager",
    )  # fmt: skip
    return diffusers.SanaSprintPipeline(
        tokenizer(), transformers.Gemma2Model(config), vae, transformer, diffusers.SCMScheduler()
    )


def _qwen_vl() -> Any:
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
    text = dict(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=160, rope_scaling=rope, rope_theta=1e6, max_position_embeddings=4096,
    )  # fmt: skip
    eyes = dict(
        depth=1, hidden_size=16, intermediate_size=16, num_heads=2, out_hidden_size=16, fullatt_block_indexes=[0]
    )
    marks = dict(image_token_id=151, video_token_id=152, vision_start_token_id=153, vision_end_token_id=154)
    return transformers.Qwen2_5_VLConfig(text_config=text, vision_config=eyes, **marks)


def qwen_image() -> Any:
    """QwenImagePipeline."""
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, guidance_embeds=False, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, temperal_downsample=[False, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    reader = transformers.Qwen2_5_VLForConditionalGeneration(_qwen_vl())
    return diffusers.QwenImagePipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(), vae, reader, tokenizer(), transformer
    )


def hunyuan() -> Any:
    """HunyuanVideo15Pipeline."""
    transformer = diffusers.HunyuanVideo15Transformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=1,
        num_refiner_layers=1, mlp_ratio=2.0, patch_size=1, patch_size_t=1, text_embed_dim=16, text_embed_2_dim=32,
        image_embed_dim=8, rope_axes_dim=(8, 4, 4), task_type="t2v", target_size=16,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLHunyuanVideo15(
        latent_channels=4, block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1, spatial_compression_ratio=16,
        temporal_compression_ratio=4,
    )  # fmt: skip
    reader = transformers.Qwen2_5_VLTextModel(_qwen_vl().text_config)
    guider = diffusers.guiders.ClassifierFreeGuidance(guidance_scale=6.0)
    return diffusers.HunyuanVideo15Pipeline(
        reader, tokenizer(), transformer, vae, diffusers.FlowMatchEulerDiscreteScheduler(), _t5("T5"),
        transformers.ByT5Tokenizer(), guider,
    )  # fmt: skip


MAKERS = {
    "z-image-turbo": z_image,
    "flux2-klein-4b": flux2_klein,
    "sana-sprint": sana_sprint,
    "qwen-image": qwen_image,
    "wan2.2-ti2v-5b": lambda: wan(True),
    "wan2.1-1.3b": lambda: wan(False),
    "ltx-video": ltx,
    "hunyuanvideo-1.5": hunyuan,
}


def saved(name: str, folder: Any) -> None:
    """Write the tiny pipeline of a preset into a folder."""
    torch.manual_seed(0)
    MAKERS[name]().save_pretrained(str(folder))
