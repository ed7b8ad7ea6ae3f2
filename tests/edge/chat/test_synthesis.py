"""A text that is spoken in a thread of its own: what it held goes with the last who holds it."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from edge.arrays import F32
from edge.chat.synthesis import Synthesis, SynthesisRequest
from edge.chat.voices import VoiceChoice
from edge.errors import EngineClosed
from tests.edge.speech.fake_voice import FakeVoice, FakeVoices


class Recorder:
    """An encoder that keeps all it gets until its end, as FLAC's does."""

    def __init__(self, rate_hz: int) -> None:
        self.samples: list[F32] = []

    def add(self, samples: F32) -> bytes:
        self.samples.append(samples)
        return b""

    def end(self) -> bytes:
        return np.concatenate(self.samples).tobytes()


def begun(voice: FakeVoice, kept: list[weakref.ref[Recorder]], stopped: Callable[[], bool]) -> Synthesis:
    def encoder(rate_hz: int) -> Recorder:
        made = Recorder(rate_hz)
        kept.append(weakref.ref(made))
        return made

    request = SynthesisRequest("One. Two. Three.", VoiceChoice(None, "en"))
    return Synthesis(FakeVoices(voice), request, encoder, stopped)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_what_was_spoken_is_freed_at_once_however_it_ends(is_stopped: bool) -> None:
    voice, kept = FakeVoice(), list[weakref.ref[Recorder]]()
    if is_stopped:
        voice.gate.clear()
    gc.collect()
    gc.disable()
    try:
        made = begun(voice, kept, lambda: False)
        handle, gone = made.handle, weakref.ref(made)
        if is_stopped:
            handle.cancel()
            voice.gate.set()
            with contextlib.suppress(EngineClosed):
                list(handle)
        else:
            list(handle)
            assert made.take()
        wait_for_the_thread()
        del made
        assert [each() for each in kept] == [None] * len(kept)
        assert gone() is None  # the handle outlives it
    finally:
        gc.enable()


def wait_for_the_thread() -> None:
    for thread in threading.enumerate():
        if thread.name == "edge-voice":
            thread.join(60)
