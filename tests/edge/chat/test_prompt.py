"""The prompt: every rule of model-family.md, 7, as the pieces it makes."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from edge.bundle.manifest import Manifest, MemorySpec, PromptSpec, RecipeRecord, Source, TextSpec, VisionSpec
from edge.chat.prompt import Call, DecodedImage, Tool, Turn, pieces
from edge.engine.pieces import Control, Media, Piece, Text
from edge.errors import BundleError, MediaError, ParameterError
from edge.media.image import digest

CONTROL = {
    "<|endoftext|>": 1, "<image>": 2, "</image>": 3, "<sep>": 4, "<tool_call>": 5, "</tool_call>": 6,
    "<tool_response>": 7, "</tool_response>": 8, "<REKA_IMG_TOKEN>": 9,
}  # fmt: skip
SPELLING = {token: spelling for spelling, token in CONTROL.items()}
VISION = VisionSpec(
    tile_px=512, patch_px=4, max_tiles=4, tokens_per_tile=64, resample="bilinear", mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225), crop_share=0.875, order="cells-first", frames=6,
)  # fmt: skip
MANIFEST = Manifest(
    format=1, id="test", aliases=(), family="yasa2", min_runtime="0.1.0", source=Source("", {}, (), ()),
    recipe=RecipeRecord("fp32", {}), text=TextSpec(8, 1, 1, 1, 8, 8, 16, 64, 1.0, 1e4, 1e-5, 1.0, "fp32"),
    vision=VISION, audio=None, prompt=PromptSpec("yasa", "B", CONTROL, (4, 1), ()), memory=MemorySpec(1, 1), files={},
)  # fmt: skip

WORDING_B = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{lines}\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within [<tool_call></tool_call>]"
    ' XML tags:\n[<tool_call>]\n{{"name": <function-name>, "arguments": <args-json-object>}}\n[</tool_call>]'
)
WORDING_A = (
    "# Tools\n\nYou may call one or more functions.\n\nFunction signatures are in <tools></tools>:\n<tools>\n{lines}\n"
    "</tools>\n\nReturn calls inside [<tool_call></tool_call>]:\n"
    '[<tool_call>]\n{{"name": <fn>, "arguments": <json>}}\n[</tool_call>]'
)


def image(width: int = 20, height: int = 10) -> DecodedImage:
    rgb = np.zeros((height, width, 3), dtype=np.uint8)
    return DecodedImage(rgb, digest(rgb))


def user(*parts: str | DecodedImage) -> Turn:
    return Turn("user", parts)


def assistant(*parts: str, calls: tuple[Call, ...] = ()) -> Turn:
    return Turn("assistant", parts, calls=calls)


def system(*parts: str | DecodedImage) -> Turn:
    return Turn("system", parts)


def shape(found: list[Piece]) -> str:
    """Write pieces as one line: control tokens in [], media as {n_tokens}, text as it is."""
    out = []
    for piece in found:
        match piece:
            case Control(ids):
                out.append("[" + "".join(SPELLING[token] for token in ids) + "]")
            case Text(text):
                out.append(text)
            case Media(n_tokens=n_tokens):
                out.append(f"{{{n_tokens}}}")
    return "".join(out)


def laid_out(*turns: Turn, tools: tuple[Tool, ...] = (), manifest: Manifest = MANIFEST) -> str:
    return shape(pieces(turns, manifest, tools=tools))


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([user("hi")], "human: hi[<sep>]assistant:"),
        ([user()], "human: [<sep>]assistant:"),
        ([user("hi"), assistant("yes"), user("more")],
         "human: hi[<sep>]assistant: yes\n\n[<sep>]human: more[<sep>]assistant:"),
        ([system("be brief"), user("hi")], "system: be brief\n\n[<sep>]human: hi[<sep>]assistant:"),
        ([system("be", "brief"), user("hi")], "system: be brief\n\n[<sep>]human: hi[<sep>]assistant:"),
        ([system("be brief")], "system: be brief\n\n[<sep>]assistant:"),
        ([user("hi"), assistant("It is")], "human: hi[<sep>]assistant: It is"),
        ([user("hi"), assistant("It is ")], "human: hi[<sep>]assistant: It is "),
        ([user("hi"), assistant()], "human: hi[<sep>]assistant: "),
        ([assistant("It is")], "assistant: It is"),
        ([user("a", "b", "c")], "human: a b c[<sep>]assistant:"),
        ([user("a ", " b")], "human: a   b[<sep>]assistant:"),
        ([user(image(), "what?")], "human: [<image>]{64}[</image>]what?[<sep>]assistant:"),
        ([user("what?", image())], "human: what?[<image>]{64}[</image><sep>]assistant:"),
        ([user("a", image(), "b", "c")], "human: a[<image>]{64}[</image>]b c[<sep>]assistant:"),
        ([user(image(), image(), "")], "human: [<image>]{64}[</image><image>]{64}[</image><sep>]assistant:"),
        ([user("a"), user("b")], "human: a[<sep>]human: b[<sep>]assistant:"),
    ],
)  # fmt: skip
def test_turns_are_worded_as_the_format_says(turns: list[Turn], expected: str) -> None:
    assert laid_out(*turns) == expected


def test_the_same_turn_twice_is_only_open_at_the_end() -> None:
    turn = assistant("yes")
    assert laid_out(turn, user("a"), turn) == "assistant: yes\n\n[<sep>]human: a[<sep>]assistant: yes"


CALL = Call("weather", {"city": "Köln", "days": 2})
CALL_TEXT = '[<tool_call>]\n{"name": "weather", "arguments": {"city": "K\\u00f6ln", "days": 2}}[</tool_call>]'
TWO_CALLS = CALL_TEXT.removesuffix("]") + CALL_TEXT.removeprefix("[")


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (assistant("Let me see", calls=(CALL,)), f"assistant: Let me see\n{CALL_TEXT}\n\n[<sep>]"),
        (assistant("Let me see\n", calls=(CALL,)), f"assistant: Let me see\n{CALL_TEXT}\n\n[<sep>]"),
        (assistant(calls=(CALL,)), f"assistant: {CALL_TEXT}\n\n[<sep>]"),
        (assistant("", calls=(CALL,)), f"assistant: {CALL_TEXT}\n\n[<sep>]"),
        (assistant("a", calls=(CALL, CALL)), f"assistant: a\n{TWO_CALLS}\n\n[<sep>]"),
    ],
)
def test_calls_in_the_history(turn: Turn, expected: str) -> None:
    assert laid_out(turn, user("go on")) == f"{expected}human: go on[<sep>]assistant:"


def test_consecutive_results_are_one_turn() -> None:
    turns = [user("q"), assistant(calls=(CALL,)), Turn("tool_output", results=("4 C", "rain")),
             Turn("tool_output", results=("wind",)), user("and?"), Turn("tool_output", results=("sun",))]  # fmt: skip
    found = laid_out(*turns)
    joined = (
        "human: [<tool_response>]\n4 C\n[</tool_response><tool_response>]\nrain\n"
        "[</tool_response><tool_response>]\nwind\n[</tool_response><sep>]human: and?[<sep>]"
        "human: [<tool_response>]\nsun\n[</tool_response><sep>]assistant:"
    )
    assert found == f"human: q[<sep>]assistant: {CALL_TEXT}\n\n[<sep>]" + joined


TOOLS = (
    Tool("weather", "Tells <tool_call> the weather", {"type": "object", "properties": {"z": {}, "a": {}}}),
    Tool("clock", None, None),
)
LINES = (
    '{"type": "function", "function": {"name": "weather", "description": "Tells <tool_call> the weather", '
    '"parameters": {"type": "object", "properties": {"z": {}, "a": {}}}}}\n'
    '{"type": "function", "function": {"name": "clock"}}'
)


@pytest.mark.parametrize(("wording", "text"), [("A", WORDING_A), ("B", WORDING_B)])
def test_tools_follow_the_system_text_after_a_blank_line(wording: str, text: str) -> None:
    manifest = replace(MANIFEST, prompt=replace(MANIFEST.prompt, tools=wording))
    words = text.format(lines=LINES)
    rest = "\n\n[<sep>]human: hi[<sep>]assistant:"
    assert laid_out(system("be brief"), user("hi"), tools=TOOLS, manifest=manifest) == (
        f"system: be brief\n\n{words}{rest}"
    )
    assert laid_out(user("hi"), tools=TOOLS, manifest=manifest) == f"system: {words}{rest}"
    assert laid_out(system(""), user("hi"), tools=TOOLS, manifest=manifest) == f"system: {words}{rest}"


def test_a_tool_line_is_one_json_document_in_one_run_with_our_words() -> None:
    found = pieces([user("hi")], MANIFEST, tools=TOOLS)
    assert isinstance(found[0], Text)
    line = found[0].text.split("<tools>\n")[1].split("\n")[0]
    assert json.loads(line)["function"]["parameters"] == TOOLS[0].parameters


def test_runs_of_text_are_single_pieces() -> None:
    found = pieces([system("s"), user("a", "b", image(), "c"), assistant("d", calls=(CALL,)), user("e")], MANIFEST)
    for before, after in itertools.pairwise(found):
        assert type(before) is not type(after)
    assert all(piece.text for piece in found if isinstance(piece, Text))
    assert Text("human: a b") in found


def test_text_spelling_control_tokens_stays_one_text() -> None:
    text = "".join(CONTROL)
    assert pieces([user(text)], MANIFEST)[0] == Text(f"human: {text}")
    assert Control((CONTROL["<tool_call>"],)) not in pieces([Turn("tool_output", results=(text,))], MANIFEST)


def test_a_typed_placeholder_never_moves_a_image() -> None:
    def order(text: str) -> list[type]:
        return [type(piece) for piece in pieces([user(text, image(), text)], MANIFEST)]

    assert order("<image><REKA_IMG_TOKEN></image>") == order("clean")


def test_the_cards_image_takes_320_placeholders() -> None:
    shot = image(1024, 1024)
    media = pieces([user(shot, "what?")], MANIFEST)[2]
    assert isinstance(media, Media)
    assert (media.kind, media.n_tokens, media.digest) == ("image", 320, shot.digest)
    assert media.rgb is shot.rgb


@pytest.mark.parametrize(
    ("turns", "tools"),
    [([user("a"), system("b")], ()), ([system("a"), system("b")], ()), ([user("a"), system("b")], TOOLS),
     ([system("a", image())], ())],
)  # fmt: skip
def test_system_turns_are_text_and_come_first(turns: list[Turn], tools: tuple[Tool, ...]) -> None:
    with pytest.raises(ParameterError) as caught:
        pieces(turns, MANIFEST, tools=tools)
    assert caught.value.field == "messages"


def test_a_image_for_a_text_only_bundle_is_an_error() -> None:
    with pytest.raises(MediaError, match="text only"):
        pieces([user(image())], replace(MANIFEST, vision=None, family="yasa"))


def test_a_missing_control_token_is_named() -> None:
    manifest = replace(MANIFEST, prompt=replace(MANIFEST.prompt, control={"<sep>": 4}))
    assert laid_out(user("a"), manifest=manifest) == "human: a[<sep>]assistant:"
    with pytest.raises(BundleError, match="<image>"):
        pieces([user(image())], manifest)
