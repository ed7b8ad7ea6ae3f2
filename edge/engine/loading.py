"""A bundle's graphs and tables, loaded as one model."""

from functools import partial
from typing import TYPE_CHECKING, Final

from edge.arrays import F32
from edge.bundle.bundle import Bundle
from edge.engine import self_test
from edge.engine.audio_tower import AudioTower
from edge.engine.available import available_bytes
from edge.engine.cache import Cache
from edge.engine.decoder import Decoder
from edge.engine.embedding import Embedding
from edge.engine.kv import GRAPHS, CacheChoice
from edge.engine.model import Model
from edge.engine.placing import Placing
from edge.engine.providers import input_shape
from edge.engine.vision_tower import Vision
from edge.errors import MemoryExhausted

if TYPE_CHECKING:
    import onnxruntime as ort

_RECENT_BYTES: Final = 64 << 20  # of embeddings kept for each tower


def load_model(bundle: Bundle, placing: Placing, *, cache: CacheChoice, slots: int) -> Model:
    """Load graphs and tables; towers with their first use. Raises: BundleError, MemoryExhausted, as `Placing.open`."""
    text, vision_spec, audio_spec = bundle.manifest.text, bundle.manifest.vision, bundle.manifest.audio
    graph = GRAPHS[cache.kv]
    try:
        # Before the decoder: what does not fit is told before its weights are read.
        here = Cache(text, capacity=cache.context, slots=slots, kv=cache.kv)
        embedding = Embedding(bundle)
    except (OSError, MemoryError, ValueError) as error:
        msg = f"no memory for a context of {cache.context} positions, {slots} times: {error}"
        raise MemoryExhausted(msg) from error

    def logits(session: "ort.InferenceSession", device: str | None) -> F32:
        return self_test.logits(session, text, embedding, kv=cache.kv, device=device)

    session, device = placing.open(graph, logits), placing.device(graph)
    if device is not None:
        here = Cache(text, capacity=cache.context, slots=slots, kv=cache.kv, device=device)
    decoder = Decoder(session, text, here)
    limit_bytes = min(_RECENT_BYTES, available_bytes() // 64)
    vision = audio = None
    if vision_spec is not None:
        open_it = partial(_open_tower, bundle, placing, "vision.onnx")
        vision = Vision(open_it, vision_spec, text.hidden_size, limit_bytes=limit_bytes)
    if audio_spec is not None:
        open_it = partial(_open_tower, bundle, placing, "audio.onnx")
        audio = AudioTower(open_it, audio_spec, text.hidden_size, limit_bytes=limit_bytes)
    return Model(decoder, embedding, vision, audio)


def _open_tower(bundle: Bundle, placing: Placing, graph: str) -> "ort.InferenceSession":
    fed = input_shape(graph, bundle.manifest)

    def embeddings(session: "ort.InferenceSession", _device: str | None) -> F32:
        name, shape = ("", ()) if fed is None else fed
        return self_test.tower_output(session, name, shape, "embeds")

    return placing.open(graph, embeddings)
