"""The owner may change each limit, by its name; what is none is named, with all that there are."""

import re
from dataclasses import fields

import pytest

from edge.chat.attachments import allowing
from edge.errors import ParameterError
from edge.limits import AudioLimits, Limits
from edge.media.remote import Remote


def test_what_is_changed_is_changed_and_the_rest_stays() -> None:
    found = Limits(images=5).changed(["video_s=300", "audio_seconds=60", "wait_s=0.5", "video_s=400"])
    assert found == Limits(images=5, video_s=400, audio=AudioLimits(seconds=60), wait_s=0.5)
    assert Limits().changed([]) == Limits()


def test_every_limit_has_a_name() -> None:
    names = [f.name for f in fields(Limits) if f.name != "audio"] + [f"audio_{f.name}" for f in fields(AudioLimits)]
    for name in names:
        assert Limits().changed([f"{name}=7"]) != Limits()
        with pytest.raises(ParameterError, match=f"limit {name}: expected a .*number from 0"):
            Limits().changed([f"{name}=-1"])


@pytest.mark.parametrize("text", ["image=2", "images", "", "=2", "audio=3", "of_this_machine=1"])
def test_what_is_no_limit_is_refused_with_the_names_of_all(text: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(f"limit {text!r}: expected NAME=NUMBER")) as caught:
        Limits().changed([text])
    assert "images_per_message" in str(caught.value) and "audio_pcm_bytes" in str(caught.value)


@pytest.mark.parametrize("value", ["", "x", "1.5", "nan", "1e400", "-1", str(2**53 + 1)])
def test_what_is_no_whole_number_is_refused(value: str) -> None:
    with pytest.raises(ParameterError, match=f"limit images: expected a whole number from 0 to {2**53}, got "):
        Limits().changed([f"images={value}"])


@pytest.mark.parametrize("value", ["nan", "inf", "-0.1", "x"])
def test_what_is_no_time_is_refused(value: str) -> None:
    with pytest.raises(ParameterError, match=f"limit wait_s: expected a number from 0 to {2**53}, got "):
        Limits().changed([f"wait_s={value}"])


def test_what_is_fetched_has_the_same_limits() -> None:
    assert allowing(["example.com"], Limits(redirects=1, connect_s=2, fetch_s=3, fetch_bytes=4)) == Remote(
        ("example.com",), redirects=1, connect_s=2, total_s=3, max_bytes=4
    )
    assert allowing(["example.com"]) == Remote(("example.com",))
