"""The clients and the command line on a real bundle of random weights: the same answer by every way of asking."""

import asyncio
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import reka
from PIL import Image

import edge
from edge.errors import BundleError
from edge.limits import Limits

ASK = [{"role": "user", "content": "What shapes are in the picture?"}]
SETTINGS: dict[str, object] = {"model": "reka-edge", "max_tokens": 24, "seed": 5, "temperature": 1.0}


@pytest.fixture(scope="module")
def client(int8_bundle: Path) -> Iterator[edge.Reka]:
    with edge.Reka(model=int8_bundle, threads=1) as opened:
        yield opened


def ask(client: edge.Reka, **fields: object) -> edge.ChatResponse:
    return client.chat.create(**{"messages": ASK, **SETTINGS, **fields})  # type: ignore[arg-type]


def text_of(response: edge.ChatResponse) -> str:
    return str(response.responses[0].message.content)


def saved_image(path: Path) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 500, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_a_response_is_whole(client: edge.Reka) -> None:
    response = ask(client)
    assert response.model == client.models.get()[0].id
    assert response.responses[0].finish_reason in ("stop", "length")
    assert 1 <= response.usage.output_tokens <= 24
    assert response.usage.input_tokens > len(ASK[0]["content"].split())
    assert reka.ChatResponse.parse_obj(response.dict()).dict() == response.dict()


def test_the_same_seed_gives_the_same_answer_and_another_another(client: edge.Reka) -> None:
    assert text_of(ask(client)) == text_of(ask(client))
    assert len({text_of(ask(client, seed=seed)) for seed in range(4)}) > 1


def test_create_stream_and_async_agree(client: edge.Reka, int8_bundle: Path) -> None:
    async def asked() -> tuple[str, str]:
        async with edge.AsyncReka(model=int8_bundle) as async_client:
            response = await async_client.chat.create(messages=ASK, **SETTINGS)  # type: ignore[arg-type]
            stream = async_client.chat.create_stream(messages=ASK, **SETTINGS)  # type: ignore[arg-type]
            chunks = [chunk async for chunk in stream]
            return text_of(response), str(chunks[-1].responses[0].chunk.content)

    chunks = list(client.chat.create_stream(messages=ASK, **SETTINGS))  # type: ignore[arg-type]
    texts = [str(chunk.responses[0].chunk.content) for chunk in chunks]
    assert all(after.startswith(before) for before, after in zip(texts, texts[1:], strict=False))
    response = ask(client)
    assert chunks[-1].usage == response.usage
    assert chunks[-1].responses[0].finish_reason == response.responses[0].finish_reason
    assert (text_of(response), text_of(response)) == asyncio.run(asked())
    assert texts[-1] == text_of(response)


def test_many_at_once_answer_as_one_by_one(client: edge.Reka, int8_bundle: Path) -> None:
    async def gathered() -> list[str]:
        async with edge.AsyncReka(model=int8_bundle) as async_client:
            chats = [
                async_client.chat.create(messages=ASK, **{**SETTINGS, "seed": seed})  # type: ignore[arg-type]
                for seed in range(12)
            ]
            return [text_of(response) for response in await asyncio.gather(*chats)]

    alone = [text_of(ask(client, seed=seed)) for seed in range(12)]
    assert asyncio.run(gathered()) == alone


def test_cancelled_tasks_leave_the_next_answer_unharmed(client: edge.Reka, int8_bundle: Path) -> None:
    async def run() -> None:
        async with edge.AsyncReka(model=int8_bundle) as async_client:
            for i in range(20):
                chat = async_client.chat.create(messages=ASK, **{**SETTINGS, "max_tokens": 900})  # type: ignore[arg-type]
                task = asyncio.create_task(chat)
                await asyncio.sleep(0.001 * i)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    quiet = text_of(ask(client))
    asyncio.run(run())
    assert text_of(ask(client)) == quiet


def test_a_stream_that_is_closed_leaves_the_next_answer_unharmed(client: edge.Reka) -> None:
    quiet = text_of(ask(client))
    for _ in range(5):
        stream = client.chat.create_stream(messages=ASK, **{**SETTINGS, "max_tokens": 900})  # type: ignore[arg-type]
        next(stream)
        stream.close()
    assert text_of(ask(client)) == quiet


def test_max_tokens_and_stop_end_an_answer(client: edge.Reka) -> None:
    one = ask(client, max_tokens=1)
    assert (one.usage.output_tokens, one.responses[0].finish_reason) in ((1, "length"), (1, "stop"))
    whole = text_of(ask(client))
    stop = whole[len(whole) // 2]
    cut = ask(client, stop=[stop])
    assert text_of(cut) == whole[: whole.index(stop)]
    assert cut.responses[0].finish_reason == "stop"


def test_one_image_by_every_way_is_one_answer(client: edge.Reka, tmp_path: Path) -> None:
    file = tmp_path / "frame.png"
    pixels = saved_image(file)
    parts: list[dict[str, object]] = [
        {"type": "image_url", "image_url": str(file)},
        {"type": "image_url", "image_url": file.as_uri(), "video_url": None},
        {"type": "image", "image": pixels},
        {"type": "image", "image": Image.fromarray(pixels)},
    ]
    question = {"type": "text", "text": "What colours?"}
    answers = [ask(client, messages=[{"role": "user", "content": [part, question]}]) for part in parts]
    assert len({text_of(answer) for answer in answers}) == 1
    assert len({answer.usage.input_tokens for answer in answers}) == 1
    alone = ask(client, messages=[{"role": "user", "content": [question]}])
    assert answers[0].usage.input_tokens - alone.usage.input_tokens >= 4 + 2


def test_a_completion_holds_the_continuation_only(client: edge.Reka) -> None:
    turn = {"role": "assistant", "content": "There are three"}
    response = ask(client, messages=[*ASK, turn], temperature=0)
    assert not text_of(response).startswith("There are three")


def test_a_conversation_goes_on(client: edge.Reka) -> None:
    first = ask(client)
    history = [*ASK, {"role": "assistant", "content": text_of(first)}, {"role": "user", "content": "And now?"}]
    assert ask(client, messages=history).usage.input_tokens > first.usage.input_tokens


def test_a_prompt_too_long_is_a_400_with_both_counts(client: edge.Reka) -> None:
    with pytest.raises(edge.ApiError) as caught:
        ask(client, messages=[{"role": "user", "content": "colour " * 5000}])
    assert caught.value.status_code == 400
    assert "the context holds 1024" in caught.value.body["detail"]


def test_the_context_ends_an_answer(int8_bundle: Path) -> None:
    # A client of its own, so that its context is no other's: the fixture's bundle is open with the model's.
    copied = int8_bundle.parent / "copy"
    if not copied.exists():
        copied.mkdir()
        for file in int8_bundle.iterdir():
            (copied / file.name).write_bytes(file.read_bytes())
    with edge.Reka(model=copied, context=64) as small:
        reasons = set()
        for seed in range(20):
            response = ask(small, max_tokens=500, seed=seed)
            assert response.usage.input_tokens + response.usage.output_tokens <= 65
            reasons.add(response.responses[0].finish_reason)
        assert "context" in reasons
        assert reasons <= {"context", "stop"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"type": "image_url", "image_url": "nowhere.png"}], "'nowhere.png': cannot be read"),
        ([{"type": "image_url", "image_url": "https://example.com/a.png"}], "remote media is off"),
        ([{"type": "image_url", "image_url": "data:image/png;base64,AAAA"}], "expected JPEG, PNG, WebP, GIF or BMP"),
        ([{"type": "pdf_url", "pdf_url": "a.pdf"}], "'a.pdf': cannot be read"),
        ([{"type": "image", "image": np.zeros((2, 2), np.uint8)}], "expected an (H, W, 3) uint8 array"),
        ([{"type": "image_url", "image_url": "half a pair: \ud800"}], "messages.0.content.0.image_url: "),
        ("half a pair: \ud800", "messages.0.content: expected Unicode text, got half a surrogate pair"),
    ],
)
def test_what_cannot_be_taken_is_a_400(client: edge.Reka, content: object, words: str) -> None:
    with pytest.raises(edge.ApiError) as caught:
        ask(client, messages=[{"role": "user", "content": content}])
    assert caught.value.status_code == 400
    assert words in caught.value.body["detail"]


def test_files_can_be_kept_to_a_folder(int8_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    saved_image(tmp_path / "open/a.png")
    saved_image(tmp_path / "b.png")
    limits = Limits.of_this_machine()
    with edge.Reka(model=int8_bundle, files=tmp_path / "open", limits=limits) as kept:
        part = {"type": "image_url", "image_url": "a.png"}
        assert ask(kept, messages=[{"role": "user", "content": [part]}], max_tokens=1)
        part = {"type": "image_url", "image_url": str(tmp_path / "b.png")}
        with pytest.raises(edge.ApiError, match="inside the folder"):
            ask(kept, messages=[{"role": "user", "content": [part]}])


def test_closing_ends_the_engines_thread(text_bundle: Path) -> None:
    before = threading.active_count()
    with edge.Reka(model=text_bundle) as text_client:
        response = ask(text_client)
        assert response.usage.output_tokens >= 1
    assert threading.active_count() == before


def test_a_text_bundle_takes_no_image(text_bundle: Path, tmp_path: Path) -> None:
    saved_image(tmp_path / "a.png")
    message = {"role": "user", "content": [{"type": "image_url", "image_url": str(tmp_path / "a.png")}]}
    with edge.Reka(model=text_bundle) as text_client, pytest.raises(edge.ApiError, match="accepts text only"):
        ask(text_client, messages=[message], model=text_client.models.get()[0].id)


def test_a_damaged_bundle_is_refused_when_it_is_opened(int8_bundle: Path, tmp_path: Path) -> None:
    for file in int8_bundle.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "decoder.bin").write_bytes(b"short")
    with edge.Reka(model=tmp_path) as broken, pytest.raises(edge.ApiError) as caught:
        ask(broken)
    assert (caught.value.status_code, caught.value.body) == (500, {"detail": "the bundle cannot be used"})
    assert isinstance(caught.value.__cause__, BundleError)
    assert "decoder.bin" in str(caught.value.__cause__)


def command(*arguments: str, stdin: str = "", models: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EDGE_MODELS": str(models or Path("nowhere").absolute())}
    return subprocess.run(
        [sys.executable, "-m", "edge.cli", *arguments], input=stdin, capture_output=True, text=True, env=environment
    )


def test_the_command_line_answers_as_the_client_does(client: edge.Reka, int8_bundle: Path, tmp_path: Path) -> None:
    saved_image(tmp_path / "a.png")
    options = ("--model", str(int8_bundle), "--image", str(tmp_path / "a.png"), "--seed", "3", "--max-tokens", "16")
    done = command("chat", "What", *options, "--json", stdin="colours?")
    assert done.returncode == 0, done.stderr
    image = {"type": "image_url", "image_url": str(tmp_path / "a.png")}
    content = [image, {"type": "text", "text": "What\n\ncolours?"}]
    response = client.chat.create(
        messages=[{"role": "user", "content": content}], model="reka-edge", seed=3, max_tokens=16
    )
    assert json.loads(done.stdout)["responses"] == response.dict()["responses"]
    assert json.loads(done.stdout)["usage"] == response.dict()["usage"]


def test_install_doctor_and_bench_work_on_a_real_bundle(int8_bundle: Path, tmp_path: Path) -> None:
    assert command("models", "install", str(int8_bundle), models=tmp_path).returncode == 0
    done = command("doctor", "--model", "reka-edge-random", models=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "bytes verified" in done.stdout
    assert re.search(r"bandwidth: +\d+\.\d GB/s", done.stdout)
    assert re.search(r"products: .*int4-blocks \d+, .*fp32 \d+", done.stdout)
    for figure in ("prompt", "decode", "tile", "memory"):
        assert re.search(rf"forecast: +{figure} .* forecast, .* measured \([+-]\d+%\)", done.stdout)
    options = ("--model", "reka-edge-random", "--prompt", "40", "--tokens", "8", "--threads", "1", "--grammar")
    plot = tmp_path / "bench.svg"
    done = command("bench", *options, "--json", "--plot", str(plot), models=tmp_path)
    figures = json.loads(done.stdout)
    assert (figures["model"], figures["threads"]) == ("reka-edge-random", 1)
    assert (figures["prompt_tokens"], figures["answer_tokens"]) == (40, 8)
    assert figures["cpu"] and figures["onnxruntime"] == importlib.metadata.version("onnxruntime")
    measured = (
        "load_s",
        "prefill_tokens_per_s",
        "decode_tokens_per_s",
        "decode_GB_per_s",
        "seconds_per_tile",
        "anonymous_bytes",
    )
    assert all(figures[name] > 0 for name in (*measured, "grammar_share"))
    for curve in ("decode_tokens_per_s_at", "prefill_tokens_per_s_at"):
        assert "256" in figures[curve]
        assert all(value > 0 for value in figures[curve].values())
    assert ElementTree.fromstring(plot.read_text("utf-8")).tag.endswith("svg")
    assert f"{figures['decode_tokens_per_s_at']['256']:.3g}" in plot.read_text("utf-8")


def test_a_reader_that_leaves_ends_it_quietly(int8_bundle: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    arguments = ["chat", "Talk", "--model", str(int8_bundle), "--max-tokens", "900"]
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli", *arguments],
        stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
