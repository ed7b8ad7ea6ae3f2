"""A conversation as pieces: control ids, runs of text, and media, in the order the decoder reads them.

The prompt never exists as one string, so nothing a user writes can be taken for a control token.
"""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from edge.bundle.manifest import Manifest
from edge.chat.chatml import lay_out_chatml
from edge.chat.flash import lay_out_flash
from edge.chat.turns import Call as Call
from edge.chat.turns import DecodedAudio as DecodedAudio
from edge.chat.turns import DecodedImage as DecodedImage
from edge.chat.turns import DecodedVideo as DecodedVideo
from edge.chat.turns import Part as Part
from edge.chat.turns import Role as Role
from edge.chat.turns import Tool as Tool
from edge.chat.turns import Transcript as Transcript
from edge.chat.turns import Turn as Turn
from edge.chat.turns import late_system, system_texts
from edge.engine.pieces import Audio, Control, Media, Piece, Text
from edge.errors import BundleError, MediaError, UnsupportedError
from edge.media.resized import size_of
from edge.media.tiles import grid_of, tile_count
from edge.media.windows import token_count

# Our own words: here, and only here, the tool_call tags stand for control tokens.
_BEFORE_TOOLS = {
    "A": "# Tools\n\nYou may call one or more functions.\n\nFunction signatures are in <tools></tools>:\n<tools>\n",
    "B": "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n",
}
_AFTER_TOOLS = {
    "A": "\n</tools>\n\nReturn calls inside <tool_call></tool_call>:\n"
    '<tool_call>\n{"name": <fn>, "arguments": <json>}\n</tool_call>',
    "B": "\n</tools>\n\nFor each function call, return a json object with function name and arguments "
    "within <tool_call></tool_call> XML tags:\n"
    '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>',
}
_CALL_TAG = re.compile("(</?tool_call>)")


def pieces(turns: Sequence[Turn], manifest: Manifest, *, tools: Sequence[Tool] = ()) -> list[Piece]:
    """Lay out a conversation for the decoder; a last turn of the assistant's is left open to be continued.

    Adjacent text is one Text, adjacent control ids one Control. Raises: ParameterError for a system turn that is not
    the first or holds media, MediaError for media and UnsupportedError for tools the bundle cannot take, BundleError
    when the manifest lacks a control token. Source: model-family.md, 7.
    """
    if manifest.prompt.format == "flash":
        return [Text(lay_out_flash(turns, manifest, tools))]
    if manifest.prompt.format == "chatml":
        return lay_out_chatml(turns, manifest, tools)
    layout = _Layout(manifest)
    system, rest = (turns[0], turns[1:]) if turns and turns[0].role == "system" else (None, turns)
    if system is not None or tools:
        layout.system(system, tools)
    is_open = bool(rest) and rest[-1].role == "assistant"
    for role, group in groupby(rest[:-1] if is_open else rest, key=lambda turn: turn.role):
        if role == "tool_output":
            layout.results([result for turn in group for result in turn.results])
            continue
        for turn in group:
            layout.turn(turn)
    if is_open:
        layout.assistant(rest[-1])
    else:
        layout.text("assistant:")
    return layout.pieces


def running(text: str, manifest: Manifest) -> list[Piece]:
    """Lay out a text that is continued as it stands, behind the ids that every prompt of the bundle begins with."""
    first = [Control(manifest.prompt.start_ids)] if manifest.prompt.start_ids else []
    return [*first, Text(text)]


class _Layout:
    """The pieces so far."""

    def __init__(self, manifest: Manifest) -> None:
        self.pieces: list[Piece] = []
        self._manifest = manifest

    def text(self, text: str) -> None:
        last = self.pieces[-1] if self.pieces else None
        if isinstance(last, Text):
            self.pieces[-1] = Text(last.text + text)
        elif text:
            self.pieces.append(Text(text))

    def control(self, spelling: str) -> None:
        token = self._manifest.prompt.control.get(spelling)
        if token is None:
            raise BundleError(f"manifest.json: prompt.control: expected {spelling!r}, which this prompt needs")
        last = self.pieces[-1] if self.pieces else None
        if isinstance(last, Control):
            self.pieces[-1] = Control((*last.ids, token))
        else:
            self.pieces.append(Control((token,)))

    def image(self, image: DecodedImage) -> None:
        spec = self._manifest.vision
        if spec is None:
            raise MediaError(f"image: {self._manifest.id} accepts text only")
        size, detail = size_of(image.rgb), image.detail
        n_tokens = tile_count(*size, spec, detail) * spec.tokens_per_tile
        grid = grid_of(*size, spec, detail)
        # The same pixels cut otherwise are other tiles, and their embeddings others.
        key = image.digest if grid == grid_of(*size, spec) else f"{grid} {image.digest}"
        self.control("<image>")
        self.pieces.append(Media("image", image.rgb, n_tokens, key, detail))
        self.control("</image>")

    def clip(self, clip: DecodedVideo) -> None:
        spec = self._manifest.vision
        if spec is None:
            raise MediaError(f"video: {self._manifest.id} accepts text only")
        is_timed = self._manifest.prompt.format == "yasa-timed"
        self.control("<video>")
        for frame, second in zip(clip.frames, clip.seconds, strict=True):
            # An image of these pixels may be cut into several tiles: its embeddings are others.
            media = Media("frame", frame.rgb, spec.tokens_per_tile, f"frame {frame.digest}")
            if not is_timed:
                self.pieces.append(media)
                continue
            self.text(f"t={second}s")
            self.control("<image>")
            self.pieces.append(media)
            self.control("</image>")
            self.text("\n")
        self.control("</video>")

    def audio(self, audio: DecodedAudio) -> None:
        spec = self._manifest.audio
        if spec is None:
            raise MediaError(f"audio: {self._manifest.id} has no audio tower")
        self.control("<audio>")
        self.pieces.append(Audio(audio.samples, token_count(len(audio.samples), spec), audio.digest))
        self.control("</audio>")

    def transcript(self, transcript: Transcript) -> None:
        self.control("<transcript>")
        self.text(transcript.text)
        self.control("</transcript>")

    def parts(self, parts: Iterable[Part]) -> None:
        """Add a turn's parts: a space between two texts, nothing around media."""
        after_text = False
        for part in parts:
            if isinstance(part, DecodedImage):
                self.image(part)
            elif isinstance(part, DecodedVideo):
                self.clip(part)
            elif isinstance(part, DecodedAudio):
                self.audio(part)
            elif isinstance(part, Transcript):
                self.transcript(part)
            else:
                self.text(f" {part}" if after_text else part)
            after_text = isinstance(part, str)

    def system(self, turn: Turn | None, tools: Sequence[Tool]) -> None:
        parts = system_texts(turn)
        self.text("system: ")
        self.parts(parts)
        if tools:
            wording = self._manifest.prompt.tools
            if wording is None:
                raise UnsupportedError(f"tools: {self._manifest.id} does not support tool calls; expected no tools")
            self.text("\n\n" if any(parts) else "")
            self.wording(_BEFORE_TOOLS[wording])
            self.text("\n".join(map(_tool_line, tools)))
            self.wording(_AFTER_TOOLS[wording])
        self.text("\n\n")
        self.control("<sep>")

    def turn(self, turn: Turn) -> None:
        """Add a finished turn of the user's or the assistant's."""
        if turn.role == "system":
            raise late_system()
        if turn.role == "user":
            self.text("human: ")
            self.parts(turn.parts)
        else:
            self.assistant(turn)
            self.text("\n\n")
        self.control("<sep>")

    def assistant(self, turn: Turn) -> None:
        """Add what the assistant said so far, without the end of its turn."""
        self.text("assistant: ")
        self.parts(turn.parts)
        if turn.calls and any(turn.parts) and not _ends_line(turn.parts[-1]):
            self.text("\n")
        for call in turn.calls:
            self.control("<tool_call>")
            arguments = call.arguments if call.text is None else call.text
            self.text("\n" + json.dumps({"name": call.name, "arguments": arguments}, default=dict))
            self.control("</tool_call>")

    def results(self, results: Sequence[str | tuple[Part, ...]]) -> None:
        self.text("human: ")
        for result in results:
            self.control("<tool_response>")
            self.text("\n")
            self.parts((result,) if isinstance(result, str) else result)
            self.text("\n")
            self.control("</tool_response>")
        self.control("<sep>")

    def wording(self, text: str) -> None:
        """Add words of ours, their tool_call tags as control tokens."""
        for part in _CALL_TAG.split(text):
            if _CALL_TAG.fullmatch(part):
                self.control(part)
            else:
                self.text(part)


def _tool_line(tool: Tool) -> str:
    function: dict[str, object] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    return json.dumps({"type": "function", "function": function}, default=dict)


def _ends_line(part: Part) -> bool:
    return isinstance(part, str) and part.endswith("\n")
