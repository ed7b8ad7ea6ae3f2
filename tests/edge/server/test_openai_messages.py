"""Requests as OpenAI's clients really send them become the same prompts as ours, and every mistake keeps its place."""

import base64
import io
import json

import pytest
from PIL import Image

import edge
from edge.chat.attachments import Access, open_media
from edge.chat.pdf_text import TextBudget
from edge.chat.prompt import pieces
from edge.chat.request import read_request
from edge.engine.pieces import Control, Media, Text
from edge.limits import Limits
from edge.server.openai import from_openai
from tests.edge.fake_engine import CONTROL, manifest

SPEC = manifest()
NAMES = {20 + i: name for i, name in enumerate(CONTROL)}
BUDGET = TextBudget(lambda text: list(text.encode()), lambda ids: bytes(ids).decode("utf-8", "replace"), 1000)
USER = {"role": "user", "content": "hi"}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("near", "far", "all")]


def prompt(*messages: object, route: str = "openai", **fields: object) -> str:
    """Return the prompt as one text, media as their kind in brackets."""
    body = {"model": "m", "messages": list(messages), **fields}
    limits = Limits()
    if route == "openai":
        completion = from_openai(body)
        request = read_request(completion.fields, limits=limits, place=completion.place)
    else:
        request = read_request(body, limits=limits)
    opened = open_media(request.messages, spec=SPEC, access=Access(), budget=BUDGET, limits=limits)
    shown = []
    for piece in pieces(opened, SPEC, tools=request.tools):
        if isinstance(piece, Text):
            shown.append(piece.text)
        elif isinstance(piece, Control):
            shown.append("".join(NAMES[token] for token in piece.ids))
        else:
            assert isinstance(piece, Media)
            shown.append(f"[{piece.kind}]")
    return "".join(shown)


def params(*messages: object, **fields: object) -> list[str]:
    with pytest.raises(edge.UnprocessableEntityError) as caught:
        prompt(*messages, **fields)
    return [".".join(map(str, problem.loc[1:])) for problem in caught.value.body.detail]


def call(call_id: object, arguments: object, name: str = "temp") -> dict[str, object]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*made: object, **fields: object) -> dict[str, object]:
    return {"role": "assistant", "content": None, "tool_calls": list(made), **fields}


def result(call_id: str, content: object) -> dict[str, object]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def png_url() -> str:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


TWO = calls(call("a", '{"city": "Rome"}'), call("b", '{"city": "Oslo"}'))


def test_results_are_bound_to_their_calls_by_id() -> None:
    in_order = prompt(USER, TWO, result("a", "31"), result("b", "-4"))
    assert prompt(USER, TWO, result("b", "-4"), result("a", "31")) == in_order
    assert prompt(USER, TWO, result("b", "31"), result("a", "-4")) != in_order
    assert in_order.index("\n31\n") < in_order.index("\n-4\n")


def test_results_are_bound_to_their_calls_on_rekas_route_too() -> None:
    made = [{"id": name, "name": "temp", "parameters": {"city": name}} for name in "abc"]
    messages = [USER, {"role": "assistant", "content": "", "tool_calls": made}]

    def told(*ids: str, apart: bool = False) -> str:
        outputs = [{"tool_call_id": name, "output": f"of {name}"} for name in ids]
        groups = [[output] for output in outputs] if apart else [outputs]
        return prompt(*messages, *({"role": "tool_output", "content": group} for group in groups), route="reka")

    assert told("c", "a", "b") == told("a", "b", "c") == told("b", "c", "a", apart=True)


@pytest.mark.parametrize("ids", [("b", "b"), ("b", "x"), ("b",), ("b", "a", "b"), ("b", "a", "x")])
def test_results_that_do_not_answer_each_call_once_stay_in_their_order(ids: tuple[str, ...]) -> None:
    text = prompt(USER, TWO, *(result(name, f"{i}th") for i, name in enumerate(ids)))
    places = [text.index(f"\n{i}th\n") for i in range(len(ids))]
    assert places == sorted(places)


def test_equal_ids_of_calls_bind_nothing() -> None:
    twice = calls(call("a", "{}"), call("a", "{}"))
    assert prompt(USER, twice, result("a", "1"), result("a", "2")) != prompt(
        USER, twice, result("a", "2"), result("a", "1")
    )


def test_calls_of_two_messages_in_a_row_are_one_set() -> None:
    apart = (calls(call("a", "{}")), calls(call("b", "{}")))
    assert prompt(USER, *apart, result("b", "2"), result("a", "1")) == prompt(
        USER, *apart, result("a", "1"), result("b", "2")
    )


def test_each_run_of_results_belongs_to_the_calls_before_it() -> None:
    again = calls(call("a", '{"city": "Bonn"}'), call("b", '{"city": "Bern"}'))
    text = prompt(USER, TWO, result("b", "2"), result("a", "1"), again, result("b", "4"), result("a", "3"))
    assert [text.index(f"\n{n}\n") for n in range(1, 5)] == sorted(text.index(f"\n{n}\n") for n in range(1, 5))


def test_leading_system_and_developer_messages_are_joined_by_a_blank_line() -> None:
    parts = [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]
    several = prompt(
        {"role": "system", "content": "You help."},
        {"role": "developer", "content": parts},
        {"role": "system", "content": ""},
        USER,
    )
    assert several == prompt({"role": "system", "content": "You help.\n\nBe brief."}, USER)


def test_a_later_system_message_is_refused_by_its_place_in_the_request() -> None:
    system = {"role": "system", "content": "x"}
    assert params(system, system, USER, result("a", "1"), result("b", "2"), system) == ["messages.5.role"]
    with pytest.raises(edge.UnprocessableEntityError, match="got one at index 3: a later one is not supported"):
        prompt(system, system, USER, system)


def test_media_in_one_of_several_system_messages_is_refused() -> None:
    image = {"role": "system", "content": [{"type": "image_url", "image_url": {"url": png_url()}}]}
    assert params({"role": "system", "content": "x"}, image, USER) == ["messages.1.content"]
    assert params({"role": "system", "content": "x"}, {"role": "system", "content": None}, USER) == [
        "messages.1.content"
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None},
        {"role": "assistant"},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": []},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": None,
            "function_call": None,
            "audio": None,
            "refusal": None,
        },
    ],
)
def test_an_assistant_may_have_said_nothing(message: dict[str, object]) -> None:
    assert prompt(USER, message, USER) == prompt(USER, {"role": "assistant", "content": ""}, USER)
    assert prompt(USER, message) == prompt(USER)  # nothing to continue


def test_a_refusal_is_what_the_assistant_said() -> None:
    said = prompt(USER, {"role": "assistant", "content": "I cannot."}, USER)
    assert prompt(USER, {"role": "assistant", "content": None, "refusal": "I cannot."}, USER) == said
    part = {"type": "refusal", "refusal": "I cannot."}
    assert prompt(USER, {"role": "assistant", "content": [part]}, USER) == said


def test_a_result_without_content_is_an_empty_text() -> None:
    assert prompt(USER, TWO, result("a", None), result("b", [])) == prompt(USER, TWO, result("a", ""), result("b", ""))


def test_media_in_a_result_stand_inside_it() -> None:
    content = [{"type": "text", "text": "a map"}, {"type": "image_url", "image_url": {"url": png_url()}}]
    text = prompt(USER, calls(call("a", "{}")), result("a", content))
    assert "<tool_response>\na map<image>[image]</image>\n</tool_response>" in text
    bad = [{"type": "text", "text": "a map"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    with pytest.raises(edge.errors.MediaError, match=r"^messages\.3\.content\.1\.image_url: "):
        prompt(USER, TWO, result("a", "1"), result("b", bad))


def test_media_of_results_count_as_those_of_messages() -> None:
    image = {"type": "image_url", "image_url": {"url": png_url()}}
    assert params(USER, TWO, result("a", [image] * 7)) == ["messages.2.content"]


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        ('{"city": "Par', json.dumps('{"city": "Par')),
        ("[1]", '"[1]"'),
        ('{"a": NaN}', json.dumps('{"a": NaN}')),
        ('{"a": 1e999}', json.dumps('{"a": 1e999}')),
        ("null", "{}"),
        (" ", "{}"),
        ("", "{}"),
        ({"city": "Rome"}, '{"city": "Rome"}'),
    ],
)
def test_arguments_that_are_no_json_object_are_passed_on_as_text(arguments: object, written: str) -> None:
    text = prompt(USER, calls(call("a", arguments)), result("a", "not JSON"), USER)
    assert f'{{"name": "temp", "arguments": {written}}}' in text


def test_calls_and_results_of_the_old_kind_are_read() -> None:
    old = {"role": "assistant", "content": None, "function_call": {"name": "temp", "arguments": '{"city": "Rome"}'}}
    new = calls(call("temp", '{"city": "Rome"}'))
    answered = {"role": "function", "name": "temp", "content": "31"}
    assert prompt(USER, old, answered) == prompt(USER, new, result("temp", "31"))


def test_typed_parts_of_other_routes_are_read() -> None:
    texts = [{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b"}, "c"]
    assert prompt({"role": "user", "content": texts}) == prompt(
        {"role": "user", "content": [{"type": "text", "text": text} for text in "abc"]}
    )
    url = png_url()
    shapes = [{"type": "input_image", "image_url": url}, {"type": "image_url", "image_url": url}]
    assert "<image>[image]</image><image>[image]</image>" in prompt({"role": "user", "content": shapes})
    assert params({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}) == [
        "messages.0.content.0.image_url.url"
    ]


@pytest.mark.parametrize("mode", ["auto", "required"])
@pytest.mark.parametrize("nested", [True, False])
def test_allowed_tools_leave_those_that_are_named(mode: str, nested: bool) -> None:
    inner = {"mode": mode, "tools": [TOOLS[2], {"type": "function", "name": "near"}]}
    choice = {"type": "allowed_tools", **({"allowed_tools": inner} if nested else inner)}
    ours = "tool" if mode == "required" else "auto"
    completion = from_openai({"model": "m", "messages": [USER], "tools": TOOLS, "tool_choice": choice})
    assert completion.fields["tool_choice"] == ours
    assert [tool["name"] for tool in completion.fields["tools"]] == ["near", "all"]  # type: ignore[attr-defined]


def test_allowed_tools_that_are_not_on_offer_are_refused() -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"function": {"name": "no"}}]}}
    assert params(USER, tools=TOOLS, tool_choice=choice) == ["tool_choice"]


def test_no_limit_of_top_k_is_minus_one_here_alone() -> None:
    completion = from_openai({"model": "m", "messages": [USER], "top_k": -1})
    assert read_request(completion.fields, limits=Limits()).options.top_k > 1 << 20
    assert params(USER, top_k=-2) == ["top_k"]
    assert params(USER, top_k=-1, route="reka") == ["top_k"]


def test_fields_without_a_wish_are_as_good_as_absent() -> None:
    fields = {"functions": [], "function_call": "none", "tools": [], "tool_choice": "auto", "stop": [], "n": None}
    assert prompt({**USER, "name": "ann"}, **fields) == prompt(USER)
