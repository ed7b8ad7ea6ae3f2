"""A toolset calls what it may, tells the model what failed, and waits for nobody."""

import asyncio
import dataclasses
import json
import threading
from collections.abc import Iterator, Mapping

import numpy as np
import PIL.Image
import pydantic
import pytest

import edge
from edge.chat.messages import Problems
from edge.chat.tools import read_tools
from edge.errors import ParameterError
from edge.tools.output import MAX_MEDIA
from edge.tools.toolset import MAX_LEFT_BEHIND, Toolset


@edge.tool(read_only=True)
def add(a: int, b: int = 1) -> int:
    """Add numbers."""
    return a + b


@edge.tool
def open_door(name: str) -> str:
    return f"{name} is open"


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a tool waits for that would never end."""
    gate = threading.Event()
    yield gate
    gate.set()


def test_schemas_are_what_a_request_takes() -> None:
    problems = Problems()
    tools = read_tools(Toolset([add, open_door]).schemas, problems)
    assert not problems.found
    assert [(tool.name, tool.description) for tool in tools] == [("add", "Add numbers."), ("open_door", "")]


def test_functions_become_tools() -> None:
    def double(a: int) -> int:
        return 2 * a

    assert Toolset([double], allow=["double"]).call("double", {"a": 2}) == "4"


def test_names_are_distinct_and_tools_are_functions() -> None:
    with pytest.raises(ParameterError, match="the name add is there twice"):
        Toolset([add, add])
    for wrong in ("add", {"name": "add"}, 3):
        with pytest.raises(ParameterError, match="tools: expected a list"):
            Toolset(wrong)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="a schema without a function"):
        Toolset([{"name": "add"}])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ('{"a": 2, "b": 3}', "5"), ({"a": "2"}, "3"), ('{"a": "x"}', "Error: arguments of add: a: Input should be a"),
        ("", "Error: arguments of add: a: Field required"), ("[1]", "Error: arguments of add: expected a JSON object"),
        ("{", "Error: arguments of add: expected JSON"), ("[" * 100_000, "Error: arguments of add: expected JSON"),
        (f'"{"x" * 200_000}"', "Error: arguments of add: expected at most 100000"),
    ],
)  # fmt: skip
def test_arguments_are_checked(arguments: str | Mapping[str, object], result: str) -> None:
    assert Toolset([add]).call("add", arguments).startswith(result)


def test_a_tool_that_there_is_not_is_an_error_that_names_those_there_are() -> None:
    assert Toolset([add, open_door]).call("sub", "{}") == "Error: there is no tool 'sub'; the tools are add, open_door"


def test_what_a_tool_raises_is_told_without_traceback_and_paths() -> None:
    @edge.tool(read_only=True)
    def read(how: int) -> object:
        if how == 0:
            raise FileNotFoundError(2, "No such file or directory", "/srv/secret/notes.txt")
        if how == 1:
            raise ValueError("cannot read /srv/secret/notes.txt,\nline 2: \x1b[31mbad")
        if how == 2:
            raise SystemExit(3)
        if how == 3:
            raise TimeoutError("the device is slow")
        if how == 4:
            raise ValueError("x" * 10_000)
        return read(how=how)

    results = [Toolset([read]).call("read", {"how": how}) for how in range(6)]
    assert results[:4] == [
        "Error: FileNotFoundError: No such file or directory: 'notes.txt'",
        "Error: ValueError: cannot read notes.txt, line 2: [31mbad",
        "Error: SystemExit",
        "Error: TimeoutError: the device is slow",
    ]
    assert len(results[4]) < 350 and results[5].startswith("Error: RecursionError")


@dataclasses.dataclass
class Point:
    x: int


class Weather(pydantic.BaseModel):
    sky: str


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is\n", "as it is\n"), (None, "null"), (3, "3"), (True, "true"), ({"a": [1, "ü"]}, '{"a":[1,"ü"]}'),
        ([Point(1)], '[{"x":1}]'), (Weather(sky="clear"), '{"sky":"clear"}'), (np.float32(0.5), "0.5"),
        (np.arange(3), "[0,1,2]"), (b"\xff\x00", "[2 bytes]"), ({1, }, "[1]"), (float("nan"), "NaN"),
        ("half \ud800 \x1b[31m", "half ? [31m"), ({"a": object}, '{"a":"<class \'object\'>"}'), ("", ""),
    ],
)  # fmt: skip
def test_what_a_tool_returns_becomes_text(value: object, text: str) -> None:
    @edge.tool(read_only=True)
    def give() -> object:
        return value

    assert Toolset([give]).call("give") == text


def test_a_result_that_contains_itself_is_an_error() -> None:
    @edge.tool(read_only=True)
    def give() -> object:
        loop: list[object] = []
        loop.append(loop)
        return loop

    assert "Circular reference" in Toolset([give]).call("give")


def test_a_long_result_is_cut_and_says_so() -> None:
    @edge.tool(read_only=True)
    def give() -> str:
        return "abc" * 1000

    assert Toolset([give], output_chars=4).call("give") == "abca\n[cut: the first 4 of 3000 characters]"


def test_images_of_every_kind_are_parts_of_the_result() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)

    @edge.tool(read_only=True)
    def look(n: int) -> object:
        return [pixels, PIL.Image.new("L", (6, 4)), PIL.Image.new("RGBA", (6, 4)), "a note", *[pixels] * n]

    result = Toolset([look]).run("look", {"n": 0})
    assert isinstance(result.output, list)
    assert [list(part) for part in result.output] == [["type", "text"], *[["type", "image"]] * 3]
    assert all(part["image"].shape == (4, 6, 3) for part in result.media)  # type: ignore[attr-defined]
    assert Toolset([look]).call("look", {"n": 0}) == "a note\n[an image]\n[an image]\n[an image]"
    many = Toolset([look]).run("look", {"n": 3})
    assert len(many.media) == MAX_MEDIA and "[2 of 6 media are left out]" in many.text


def test_a_tool_that_changes_something_is_refused_where_nobody_can_be_asked() -> None:
    refused = "Error: the call of open_door is not allowed, and nobody can be asked; do not repeat it"
    assert Toolset([open_door]).call("open_door", {"name": "gate"}) == refused
    for allow in (["open_door"], ["open_*"], ["*"]):
        assert Toolset([open_door], allow=allow).call("open_door", {"name": "gate"}) == "gate is open"
    assert Toolset([open_door], allow=["open"]).call("open_door", {"name": "gate"}) == refused


def test_who_is_asked_decides_once_or_for_good() -> None:
    asked: list[tuple[str, object]] = []
    answers: list[object] = [False, True, True, "always"]

    def ask(name: str, arguments: Mapping[str, object]) -> object:
        asked.append((name, dict(arguments)))
        return answers.pop(0)

    tools = Toolset([add, open_door], ask=ask)  # type: ignore[arg-type]
    assert tools.call("add", {"a": 1}) == "2" and asked == []
    assert "was refused by the user" in tools.call("open_door", {"name": "a"})
    assert [tools.call("open_door", {"name": name}) for name in "bcdef"] == [f"{name} is open" for name in "bcdef"]
    assert asked == [("open_door", {"name": name}) for name in "abcd"]


def test_nobody_is_asked_about_arguments_that_are_wrong() -> None:
    tools = Toolset([open_door], ask=lambda *_: pytest.fail("asked"))
    assert tools.call("open_door", {"nam": "a"}).startswith("Error: arguments of open_door")


def test_a_coroutine_function_is_a_tool_for_both_ways_of_calling() -> None:
    @edge.tool(read_only=True)
    async def later(a: int) -> int:
        await asyncio.sleep(0)
        return a + 1

    tools = Toolset([later, add])
    assert tools.call("later", {"a": 1}) == "2"

    async def both() -> list[str]:
        return [(await tools.arun(name, {"a": 1})).text for name in ("later", "add", "none")]

    assert asyncio.run(both()) == ["2", "2", "Error: there is no tool 'none'; the tools are later, add"]


def test_a_coroutine_function_runs_on_the_callers_loop() -> None:
    @edge.tool(read_only=True)
    async def where() -> int:
        return id(asyncio.get_running_loop())

    async def run() -> bool:
        return (await Toolset([where]).arun("where")).text == str(id(asyncio.get_running_loop()))

    assert asyncio.run(run())


@pytest.mark.parametrize("answer", [True, False, "always"])
def test_questions_are_answered_on_a_loop_too(answer: object) -> None:
    async def ask(name: str, arguments: Mapping[str, object]) -> object:
        await asyncio.sleep(0)
        return answer

    async def run(asking: object) -> str:
        return (await Toolset([open_door], ask=asking).arun("open_door", {"name": "a"})).text  # type: ignore[arg-type]

    for asking in (ask, lambda *_: answer):
        assert (asyncio.run(run(asking)) == "a is open") == bool(answer)


def test_a_tool_that_never_ends_is_given_up(gate: threading.Event) -> None:
    @edge.tool(read_only=True, timeout_s=0.05)
    def hang() -> bool:
        return gate.wait()

    @edge.tool(read_only=True)
    async def never() -> None:
        await asyncio.Event().wait()

    tools = Toolset([hang, never], timeout_s=0.04)
    assert tools.call("hang") == "Error: hang gave no result within 0.05 s"
    assert tools.call("never") == "Error: never gave no result within 0.04 s"
    assert asyncio.run(tools.arun("hang")).text == "Error: hang gave no result within 0.05 s"
    assert asyncio.run(tools.arun("never")).text == "Error: never gave no result within 0.04 s"


def test_tools_that_never_end_are_not_begun_without_limit(gate: threading.Event) -> None:
    n_begun = 0

    @edge.tool(read_only=True)
    def hang() -> bool:
        nonlocal n_begun
        n_begun += 1
        return gate.wait()

    tools = Toolset([hang], timeout_s=0.001)
    results = [tools.call("hang") for _ in range(MAX_LEFT_BEHIND + 2)]
    assert "still running" in results[-1] and n_begun == MAX_LEFT_BEHIND


def test_a_call_ends_when_it_is_stopped(gate: threading.Event) -> None:
    stop = threading.Event()

    @edge.tool(read_only=True)
    def hang() -> bool:
        stop.set()
        return gate.wait()

    assert Toolset([hang]).call("hang", stop=stop) == "Error: the call of hang was stopped"


def test_cancelling_a_task_ends_its_call(gate: threading.Event) -> None:
    begun = threading.Event()

    @edge.tool(read_only=True)
    def hang() -> bool:
        begun.set()
        return gate.wait()

    async def run() -> bool:
        task = asyncio.create_task(Toolset([hang]).arun("hang"))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return not gate.is_set()

    assert asyncio.run(run())


def test_all_tools_together_are_within_what_can_be_demanded() -> None:
    many = [edge.tool(name=f"add_{i}")(lambda: 1) for i in range(129)]
    with pytest.raises(ParameterError, match="at most 128, got 129"):
        Toolset(many)


def test_results_are_json_where_they_are_no_text() -> None:
    @edge.tool(read_only=True)
    def give() -> dict[str, object]:
        return {"now": Point(2), "list": [Weather(sky="grey")]}

    assert json.loads(Toolset([give]).call("give")) == {"now": {"x": 2}, "list": [{"sky": "grey"}]}
