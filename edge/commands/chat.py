"""edge chat: one question, or a conversation in a terminal."""

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edge.commands.asking import KINDS, Asker, Message, Part, audio_part, first_model, named, seen, user
from edge.commands.choosing import chosen, needed
from edge.commands.console import (
    AsJson,
    KvOption,
    MemoryCheck,
    ModelName,
    ProvidersOption,
    Verify,
    api_failures,
    camera_of,
    fail,
    piped,
)
from edge.commands.conversation import Conversation
from edge.commands.say import LoudspeakerName, SpeechLanguage, Speed, VoiceName
from edge.commands.tool_use import AllowTool, McpOption, ToolOption, ToolOptions, ToolsOption, opened_tools

if TYPE_CHECKING:
    from edge.commands.speaking import Speaking
    from edge.devices.camera import Camera
    from edge.devices.microphone import Microphone

Names = list[str] | None
Detail = Literal["auto", "low", "high"]


def chat(
    question: Annotated[str | None, typer.Argument(help="The question. Without one: an interactive chat.")] = None,
    image: Annotated[Names, typer.Option("--image", help="An image file or URL. Repeatable.")] = None,
    audio: Annotated[Names, typer.Option("--audio", help="An audio file or URL. Repeatable.")] = None,
    video: Annotated[Names, typer.Option("--video", help="A video file or URL. Repeatable.")] = None,
    pdf: Annotated[Names, typer.Option("--pdf", help="A PDF file or URL. Repeatable.")] = None,
    camera: Annotated[
        str | None, typer.Option("--camera", help="Attach the newest frame: 0, csi, pi, a file, -.")
    ] = None,
    mic: Annotated[bool, typer.Option("--mic", help="Ask by voice; silence ends a question.")] = False,
    mic_source: Annotated[
        str | None, typer.Option("--microphone", "--mic-source", help="Its number or name, an audio file, or -.")
    ] = None,
    speak: Annotated[bool, typer.Option("--speak", help="Speak answers as well, while they come.")] = False,
    voice: VoiceName = None,
    language: SpeechLanguage = None,
    speed: Speed = 1.0,
    loudspeaker: LoudspeakerName = None,
    model: ModelName = None,
    verify: Verify = False,
    kv: KvOption = None,
    _memory_check: MemoryCheck = True,
    _providers: ProvidersOption = None,
    system: Annotated[str | None, typer.Option("--system", help="The system message.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="Limit of the answer, in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="0 is greedy decoding.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the sampling, for repeatable answers.")] = None,
    detail: Annotated[
        Detail, typer.Option("--detail", help="How finely images and pages are looked at; low is one tile.")
    ] = "auto",
    max_tiles: Annotated[
        int | None, typer.Option("--max-tiles", min=1, help="The most tiles of an image. Default: the model's.")
    ] = None,
    mcp: McpOption = None,
    tools: ToolsOption = None,
    tool: ToolOption = None,
    allow_tool: AllowTool = None,
    stats: Annotated[bool, typer.Option("--stats", help="Print token counts and times to stderr.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Do not render Markdown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask about text, images, audio, videos or PDFs. Standard input is added to the question."""
    from edge.client import Reka
    from edge.devices.microphone import Microphone

    listens = mic or mic_source is not None
    given = zip(KINDS, (image, audio, video, pdf), strict=True)
    parts = [named(kind, name) for kind, names in given for name in names or ()]
    text, piped_parts = (question or "", []) if "-" in (camera, mic_source) else piped(question)
    parts.extend(piped_parts)
    typed = sys.stdin is not None and sys.stdin.isatty()
    is_one = question is not None or (not typed and bool(text or parts))
    if not (is_one or listens or typed):
        fail("no question: pass one as an argument or on standard input, or run this in a terminal")
    if as_json and not is_one:
        fail("--json: expected a question beside it")
    if as_json and speak:
        fail("--json, --speak: expected one of them")
    with api_failures(), ExitStack() as held:
        seeing, spoken = ["image"] * (camera is not None), ["audio"] * listens
        stored = chosen(model, needed([*_kinds(parts), *seeing, *spoken]))
        client = held.enter_context(Reka(model=model or stored.id, verify=verify, kv=kv))
        eyes = None if camera is None else held.enter_context(camera_of(camera, loop=True))
        speaking = _spoken_by(held, voice, language, speed, loudspeaker) if speak else None
        asker = Asker(
            client, first_model(client), max_tokens, temperature, seed, markdown=not plain, stats=stats,
            further={"detail": detail, "max_tiles": max_tiles}, speaking=speaking,
            tools=opened_tools(ToolOptions(mcp, tools, tool or (), allow_tool or ()), held, camera=eyes),
        )  # fmt: skip
        if "camera" in (tools or ""):
            eyes = None  # the model looks when it wants to
        ear = held.enter_context(Microphone(mic_source)) if listens else None
        if is_one:
            _ask_once(asker, system, text, [*_sensed(eyes, ear), *parts], as_json=as_json)
        else:
            hands_free = not typed or mic_source == "-"
            Conversation(
                asker, stored, system=system, parts=parts, camera=eyes, microphone=ear, hands_free=hands_free
            ).run()


def _spoken_by(
    held: ExitStack, voice: str | None, language: str | None, speed: float, loudspeaker: str | None
) -> "Speaking":
    """Open what answers are spoken by. Raises: EdgeError."""
    from edge.commands.speaking import Speaking
    from edge.devices.loudspeaker import Loudspeaker
    from edge.speech.speaker import Speaker

    speaker = held.enter_context(Speaker(voice, language=language, speed=speed))
    return held.enter_context(Speaking(speaker, held.enter_context(Loudspeaker(loudspeaker))))


def _kinds(parts: list[Part]) -> list[str]:
    """Return the kinds of the media of a message."""
    return [str(part["type"]).removesuffix("_url") for part in parts]


def _ask_once(asker: Asker, system: str | None, text: str, parts: list[Part], *, as_json: bool) -> None:
    """Ask one question; an answer that Ctrl-C stopped is a status that is not 0."""
    first: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    messages = [*first, user(text, parts)]
    if as_json:
        asker.print_json(messages)
        return
    if not asker.ask(messages)[1]:
        raise typer.Exit(130)
    if asker.speaking is not None:
        asker.speaking.wait()
        if asker.speaking.failed is not None:
            raise typer.Exit(1)


def _sensed(camera: "Camera | None", microphone: "Microphone | None") -> list[Part]:
    """Return what the camera sees now, and what is said next."""
    parts = [] if camera is None else [seen(camera)]
    if microphone is not None:
        utterance = microphone.listen()
        if utterance is None:
            fail("no speech was detected")
        parts.append(audio_part(utterance))
    return parts
