"""edge assistant: a voice assistant on this device, and what a button or a script tells one that runs."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edge.assistant.settings import Settings
from edge.commands.choosing import Ability, chosen
from edge.commands.console import ModelName, ProvidersOption, api_failures, fail, markup
from edge.commands.say import Speed, VoiceName
from edge.commands.told import working
from edge.commands.tool_use import AllowTool, McpOption, ToolOption, ToolOptions, ToolsOption, opened_tools

if TYPE_CHECKING:
    from edge.assistant.assistant import Assistant
    from edge.assistant.events import Event

Switch = Literal["on", "off"]
ControlPath = Annotated[
    Path | None, typer.Option("--control", help="Path of the socket for commands. Default: in the runtime folder.")
]

_NONE = "none"
_HELP = (
    "A voice assistant: it wakes, listens, looks, answers and speaks. talk, stop, mute and unmute tell one that runs."
)

assistant = typer.Typer(invoke_without_command=True, help=_HELP, rich_markup_mode=markup())


@assistant.callback()
def run(
    context: typer.Context,
    wake: Annotated[
        list[str] | None,
        typer.Option("--wake", help="A wake word, a model's file, or none. Repeatable. Default: okay_nabu."),
    ] = None,
    wake_threshold: Annotated[
        float | None, typer.Option("--wake-threshold", help="The score that wakes. Default: the model's.")
    ] = None,
    vad: Annotated[
        Literal["auto", "silero", "loudness"], typer.Option("--vad", help="What tells speech from noise.")
    ] = Settings.vad,
    microphone: Annotated[
        str | None, typer.Option("--microphone", help="Its number or name, an audio file, or -. Default: the system's.")
    ] = None,
    loudspeaker: Annotated[
        str | None, typer.Option("--loudspeaker", help="Its number or name, a .wav file, none. Default: the system's.")
    ] = None,
    camera: Annotated[str | None, typer.Option("--camera", help="0, csi, pi, a file. Default: none.")] = None,
    look: Annotated[
        Literal["auto", "always", "never"],
        typer.Option("--look", help="Which questions get an image; auto: those about what is seen."),
    ] = Settings.look,
    model: ModelName = None,
    _providers: ProvidersOption = None,
    speech: Annotated[
        str | None, typer.Option("--speech", help="The speech-to-text model. Default: the one set for the model.")
    ] = None,
    voice: VoiceName = None,
    speed: Speed = Settings.speed,
    language: Annotated[str, typer.Option("--language", help="Of questions and answers: en, de, ...")] = (
        Settings.language
    ),
    system: Annotated[
        str | None, typer.Option("--system", help="The system message. Default: one for spoken answers.")
    ] = None,
    follow_up: Annotated[
        float, typer.Option("--follow-up", min=0, help="Seconds in which a question needs no wake word; 0: never.")
    ] = Settings.follow_up_s,
    listen: Annotated[float, typer.Option("--listen", help="Seconds to wait for a question.")] = Settings.listen_s,
    silence: Annotated[float, typer.Option("--silence", help="Seconds of silence that end one.")] = Settings.silence_s,
    turns: Annotated[
        int, typer.Option("--history-turns", min=0, help="Turns that are remembered.")
    ] = Settings.history_turns,
    minutes: Annotated[
        float, typer.Option("--history-minutes", min=0, help="Minutes for which they are.")
    ] = Settings.history_minutes,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Limit of an answer, in tokens.")
    ] = Settings.max_tokens,
    temperature: Annotated[float | None, typer.Option("--temperature", help="0 is greedy decoding.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the sampling, for repeatable answers.")] = None,
    tools: ToolsOption = None,
    mcp: McpOption = None,
    tool: ToolOption = None,
    allow_tool: AllowTool = None,
    sounds: Annotated[Switch, typer.Option("--sounds", help="A short sound for changes of state.")] = "on",
    once: Annotated[bool, typer.Option("--once", help="End after one answer.")] = False,
    control: ControlPath = None,
) -> None:
    """Wait for a wake word, a key (space) or `edge assistant talk`; answer aloud. Each event is a line of JSON.

    In a terminal: space talks and ends a question, s stops, m mutes, q ends. SIGUSR1 does what space does.
    """
    if context.invoked_subcommand is not None:
        return
    with api_failures():
        settings = Settings(
            wake=wake_words(wake), wake_threshold=wake_threshold, vad=vad, look=look, language=language, system=system,
            speed=speed, follow_up_s=follow_up, listen_s=listen, silence_s=silence, history_turns=turns,
            history_minutes=minutes, max_tokens=max_tokens, temperature=temperature, seed=seed, sounds=sounds == "on",
            once=once,
        )  # fmt: skip
        from edge.assistant.assistant import Assistant
        from edge.assistant.view import View

        needs: set[Ability] = {"images"} if camera is not None else set()
        stored = chosen(model, needs if speech is not None else {"audio", *needs})
        told = working(f"loading: {stored.id}", lambda: f"assistant with {stored.id}: {running.state.value}")
        view = None if camera is None else View(camera)
        with contextlib.ExitStack() as held:
            offered = opened_tools(  # nobody is asked: keys are commands here
                ToolOptions(mcp, tools, tool or (), allow_tool or ()), held, camera=view,
                announce=lambda text: running.ring(text), can_ask=False,
            )  # fmt: skip
            on_turn = held.enter_context(told)
            running = held.enter_context(
                Assistant(
                    microphone=microphone, loudspeaker=loudspeaker, camera=view, voice=voice,
                    model=model or stored.id, speech=speech, on_event=_print, tools=offered,
                    on_beat=lambda: on_turn(running.stalled_s), settings=settings,
                )
            )  # fmt: skip
            _serve(running, control, typed=microphone != "-")


def _serve(running: "Assistant", control: Path | None, *, typed: bool) -> None:
    """Run an assistant with its keys, signals and socket."""
    from edge.assistant.control import Control, own_path
    from edge.commands.assistant_keys import keys

    commands = {"talk": running.talk, "stop": running.stop, "mute": running.mute, "unmute": running.unmute}
    by_key = {" ": running.talk, "\n": running.talk, "\r": running.talk, "s": running.stop, "\x1b": running.stop,
              "m": running.mute, "q": running.end, "\x04": running.end}  # fmt: skip
    with contextlib.ExitStack() as held:
        held.enter_context(Control(control or own_path(), commands, lambda: running.state.value))
        held.enter_context(_signals(running))
        if typed and held.enter_context(keys(by_key)):
            print("space: talk, s: stop, m: mute, q: end", file=sys.stderr)
        with contextlib.suppress(KeyboardInterrupt):
            running.run()


@contextlib.contextmanager
def _signals(running: "Assistant") -> Iterator[None]:
    """Have SIGTERM and Ctrl-C end it, and SIGUSR1 do what the button does."""

    def end(number: int, frame: object) -> None:
        running.end()
        raise KeyboardInterrupt  # whatever it waits for

    handlers: Mapping[int, Callable[[int, object], None]] = {
        signal.SIGTERM: end,
        signal.SIGINT: end,
        signal.SIGUSR1: lambda *_: running.talk(),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(event: "Event") -> None:
    print(event.line(), flush=True)


def wake_words(names: list[str] | None) -> tuple[str, ...]:
    """Return the wake words; the default one only where what detects it is installed."""
    from edge.errors import ParameterError
    from edge.speech import wake_word

    if names is not None:
        return () if names == [_NONE] else tuple(names)
    try:
        for name in Settings.wake:
            wake_word.load(name).close()
    except ParameterError as error:
        print(f"edge: no wake word: {error}; edge assistant talk, or a key, does without", file=sys.stderr)
        return ()
    return tuple(map(str, Settings.wake))


def _tell(command: str, control: Path | None) -> None:
    from edge.assistant.control import send

    with api_failures():
        answer = send(command, control)
        if answer.startswith("error"):
            fail(answer)
        print(answer)


@assistant.command()
def talk(control: ControlPath = None) -> None:
    """Have the assistant that runs listen now, as its wake word does; while it listens, end the question."""
    _tell("talk", control)


@assistant.command()
def stop(control: ControlPath = None) -> None:
    """Silence the assistant that runs; it waits for its wake word."""
    _tell("stop", control)


@assistant.command()
def mute(control: ControlPath = None) -> None:
    """Have the assistant that runs listen to nothing; a second time takes it back."""
    _tell("mute", control)


@assistant.command()
def unmute(control: ControlPath = None) -> None:
    """Have the assistant that runs listen again."""
    _tell("unmute", control)


@assistant.command()
def state(control: ControlPath = None) -> None:
    """Print the state of the assistant that runs."""
    _tell("state", control)
