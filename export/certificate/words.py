"""A certificate in a few lines for people."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

_MIB: Final = 1 << 20
_NAMES: Final[Mapping[str, str]] = {"text": "running text", "chat": "chat", "images": "about images"}


def lines(data: bytes) -> Iterator[str]:
    """What a certificate says, a line for each thing. data: of the file that was just written."""
    measured = json.loads(data)
    yield f"certificate     {measured['level']}, {measured['positions']} positions, {measured['wall_s']:.0f} s"
    yield f"  KL divergence {_kl(measured['kl'])}"
    yield f"  top-1         {measured['top1_agreement']:.2%} the same as the reference's"
    for kind, figures in (measured.get("sets") or {}).items():
        yield f"  {_NAMES.get(kind, kind):<13} {_set(figures)}"
    skipped = (measured.get("evaluation") or {}).get("skipped")
    if skipped:
        yield f"  left out      {skipped} entries of the text, such as {measured['evaluation']['why_skipped']}"
    stepped = measured.get("prefill_decode")
    if stepped is not None:
        share = stepped["share_of_kl"]
        told = "" if share is None else f", {share:.1%} of what quantization costs"
        yield f"  decode        KL {stepped['kl']['mean']:.2e} mean against prefill{told}"
    int8_cache = measured.get("int8_cache")
    if int8_cache is not None:
        yield f"  int8 cache    {_int8(int8_cache)}"
    yield f"  logits        {measured['largest_logit_difference']:.3g} largest difference"
    for key, name in (("image_cosine", "images"), ("encoder_cosine", "encoder")):
        cosine = measured.get(key)
        if cosine is not None:
            yield f"  {name:<13} cosine {cosine['mean']:.6f} mean, {cosine['min']:.6f} min"
    for worst in measured["worst_tensors"]:
        yield f"  worst tensor  {worst['tensor']} ({worst['scheme']}): relative error {worst['error']:.4g}"
    golden = measured.get("golden")
    if golden is not None:
        n_tokens = sum(len(prompt["steps"]) for prompt in golden["prompts"])
        yield f"  golden        {n_tokens} tokens of {len(golden['prompts'])} prompts, to be replayed by edge doctor"
    peak = measured.get("peak_bytes")
    if peak is not None:
        bundle, reference = mib(peak["bundle"]["resident"]), mib(peak["reference"]["resident"])
        yield f"  peak memory   {bundle} for the bundle, {reference} for the reference"


def warnings(data: bytes) -> list[str]:
    """A sentence for each threshold of the recipe that is missed. data: as for `lines`."""
    measured = json.loads(data)
    return [f"the bundle misses a threshold of recipe {measured['recipe']}: {each}" for each in measured["missed"]]


def mib(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / _MIB:,.{0 if size >= 10 * _MIB else 1}f} MiB"


def _kl(kl: Mapping[str, float]) -> str:
    return f"{kl['mean']:.2e} mean, {kl['p99']:.2e} 99th percentile, {kl['max']:.2e} largest"


def _int8(cache: Mapping[str, Any]) -> str:
    found, whole, without = (cache[key] for key in ("to_float32", "to_reference", "float32_to_reference"))
    before, after = (figures["kl"]["mean"] for figures in (without, whole))
    told = f"KL {found['kl']['mean']:.2e} against float32 keys and values, top-1 {found['top1_agreement']:.2%}"
    return f"{told}; against the reference {after:.2e}, {before:.2e} without"


def _set(figures: Mapping[str, Any]) -> str:
    said = f"KL {figures['kl']['mean']:.2e}, top-1 {figures['top1_agreement']:.2%}, {figures['positions']} positions"
    perplexity = figures["perplexity"]
    if perplexity is None:
        return said
    return f"{said}, perplexity {perplexity['bundle']:.5g} (reference {perplexity['reference']:.5g})"
