"""What a manifest says of a model's parts: their shapes, and what images have to be."""

from typing import Final

from edge.bundle.manifest import TextSpec, VisionSpec
from export.checkpoint.config import TextConfig, VisionConfig
from export.checkpoint.towers import SiglipConfig
from export.graphs.table import table_scheme
from export.recipe import Recipe

VIDEO_FRAMES: Final = 6


def text_spec(text: TextConfig, recipe: Recipe) -> TextSpec:
    """The decoder, its embedding table as the recipe stores it."""
    return TextSpec(
        hidden_size=text.hidden_size,
        n_layers=text.n_layers,
        n_heads=text.n_heads,
        n_kv_heads=text.n_kv_heads,
        head_dim=text.head_dim,
        intermediate_size=text.intermediate_size,
        vocab_size=text.vocab_size,
        context=text.context,
        rotary_share=text.rotary_share,
        rope_base=text.rope_base,
        norm_eps=text.norm_eps,
        logit_scale=text.logit_scale,
        embedding=table_scheme(recipe, text.n_layers),
    )


def vision_spec(vision: VisionConfig | SiglipConfig) -> VisionSpec:
    """The vision tower, and the images that it takes."""
    return VisionSpec(
        tile_px=vision.tile_px,
        patch_px=vision.patch_px,
        max_tiles=vision.max_tiles,
        tokens_per_tile=vision.tokens_per_tile,
        resample=vision.resample,
        mean=vision.mean,
        std=vision.std,
        crop_share=vision.crop_share,
        order=vision.order,
        frames=VIDEO_FRAMES,
    )
