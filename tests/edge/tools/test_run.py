"""The tool loop: calls are made and answered in order until an answer has none, and it always ends."""

import asyncio
import inspect
import threading
from collections.abc import Mapping

import jsonschema
import numpy as np
import pytest

import edge
from edge.client import AsyncChatClient, ChatClient
from edge.tools.rounds import MAX_REPEATS, MAX_ROUNDS, Event, RunResponse, ToolEnded, ToolStarted
from edge.tools.toolset import Toolset
from tests.edge.tools.scripts import StandIn, asking, async_client, call

ASK = [{"role": "user", "content": "How is the weather?"}]
HOW = {"model": "reka-edge", "messages": ASK}


@edge.tool(read_only=True)
def weather(city: str) -> dict[str, str]:
    """Tell the weather."""
    return {"city": city, "sky": "clear"}


@edge.tool
def count() -> int:
    """Count on."""
    COUNTED.append(1)
    return len(COUNTED)


COUNTED: list[int] = []


@pytest.fixture(autouse=True)
def uncounted() -> None:
    COUNTED.clear()


def test_an_answer_without_calls_is_the_answer() -> None:
    engine = StandIn(["It is", " fine."])
    with asking(engine) as client:
        answer = client.chat.run(tools=[weather], **HOW)
    assert (answer.text, answer.finish_reason, answer.calls) == ("It is fine.", "stop", [])
    assert isinstance(answer, edge.ChatResponse) and answer.responses[0].message.content == "It is fine."
    assert answer.messages == [*ASK, edge.ChatMessage(role="assistant", content="It is fine.")]
    assert '"name": "weather"' in engine.read()


def test_results_go_back_to_the_model_until_it_calls_no_more() -> None:
    engine = StandIn([call("weather", city="Rome")], [call("weather", city="Oslo")], ["Clear in both."])
    with asking(engine) as client:
        answer = client.chat.run(tools=[weather], **HOW)
    assert answer.text == "Clear in both." and answer.finish_reason == "stop"
    assert [(made.name, made.parameters) for made in answer.calls] == [
        ("weather", {"city": "Rome"}), ("weather", {"city": "Oslo"}),
    ]  # fmt: skip
    asked = engine.read()
    assert asked.index('{"city":"Rome","sky":"clear"}') < asked.index('{"city":"Oslo","sky":"clear"}')
    assert len(engine.asked) == 3 and [message_role(m) for m in answer.messages] == [
        "user", "assistant", "tool_output", "assistant", "tool_output", "assistant",
    ]  # fmt: skip


def message_role(message: object) -> object:
    return message["role"] if isinstance(message, Mapping) else message.role  # type: ignore[attr-defined]


def test_the_usage_is_the_sum_of_all_answers() -> None:
    engine = StandIn([call("weather", city="Rome")], ["Clear", "."])
    with asking(engine) as client:
        answer = client.chat.run(tools=[weather], **HOW)
    n_input = sum(len(prompt) for prompt, _ in engine.asked)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (n_input, 3)


def test_parallel_calls_are_made_and_answered_in_order() -> None:
    order: list[str] = []

    @edge.tool(read_only=True)
    def note(text: str) -> str:
        order.append(text)
        return text.upper()

    engine = StandIn([call("note", text="a"), call("note", text="b"), call("note", text="c")], ["Done."])
    with asking(engine) as client:
        answer = client.chat.run(tools=[note], **HOW)
    assert order == ["a", "b", "c"]
    results = answer.messages[-2]["content"]
    assert [result["output"] for result in results] == ["A", "B", "C"]
    assert [result["tool_call_id"] for result in results] == [made.id for made in answer.calls]
    asked = engine.read()
    assert asked.index("\nA\n") < asked.index("\nB\n") < asked.index("\nC\n")


def test_the_messages_are_those_of_the_next_request() -> None:
    engine = StandIn([call("weather", city="Rome")], ["Clear."], ["You are welcome."])
    with asking(engine) as client:
        answer = client.chat.run(tools=[weather], **HOW)
        thanks = [*answer.messages, {"role": "user", "content": "Thanks."}]
        assert client.chat.run(tools=[weather], model="reka-edge", messages=thanks).text == "You are welcome."
    assert '"sky":"clear"' in engine.read() and "Thanks." in engine.read()


@pytest.mark.parametrize(
    ("said", "result"),
    [
        (call("weather", town="Rome"), "Error: arguments of weather: city: Field required"),
        (call("weather", city=["Rome"]), "Error: arguments of weather: city: Input should be a valid string"),
        (call("fail"), "Error: ZeroDivisionError: division by zero"),
    ],
)
def test_what_fails_goes_back_to_the_model(said: str, result: str) -> None:
    @edge.tool(read_only=True)
    def fail() -> float:
        return 1 / 0

    engine = StandIn([said], ["I am sorry."])
    with asking(engine) as client:
        assert client.chat.run(tools=[weather, fail], **HOW).text == "I am sorry."
    assert result in engine.read() and "Traceback" not in engine.read()


def test_after_the_last_round_the_model_answers_without_tools() -> None:
    engine = StandIn(*[[call("count")]] * 3, ["Three."])
    with asking(engine) as client:
        answer = client.chat.run(tools=[count], max_rounds=3, **HOW)
    assert (answer.text, answer.finish_reason, len(answer.calls)) == ("Three.", "max_rounds", 3)
    assert "<tools>" in engine.read(2) and "<tools>" not in engine.read(3)


def test_a_model_that_only_calls_comes_to_an_end() -> None:
    engine = StandIn([call("count")])
    with asking(engine) as client:
        answer = client.chat.run(tools=[count], **HOW)
    assert answer.finish_reason == "max_rounds" and len(answer.calls) == MAX_ROUNDS == len(COUNTED)
    assert len(engine.asked) == MAX_ROUNDS + 1


def test_a_call_that_is_repeated_with_one_result_ends_the_rounds() -> None:
    engine = StandIn(
        [call("weather", city="Rome")], [call("weather", city="Oslo")], [call("weather", city="Rome")],
        [call("weather", city="Rome")], ["Clear."],
    )  # fmt: skip
    with asking(engine) as client:
        answer = client.chat.run(tools=[weather], **HOW)
    assert (answer.text, answer.finish_reason, len(answer.calls)) == ("Clear.", "repeated", MAX_REPEATS + 1)


def test_without_rounds_there_are_no_tools() -> None:
    engine = StandIn(["No."])
    with asking(engine) as client:
        assert client.chat.run(tools=[weather], max_rounds=0, **HOW).text == "No."
    assert "<tools>" not in engine.read()


@pytest.mark.parametrize("most", [-1, 1.5, "3", True])
def test_a_number_of_rounds_that_is_none_is_refused(most: object) -> None:
    with asking(StandIn(["No."])) as client, pytest.raises(edge.UnprocessableEntityError, match="max_rounds"):
        client.chat.run(tools=[weather], max_rounds=most, **HOW)  # type: ignore[arg-type]


def test_what_are_no_tools_is_refused_as_a_request_is() -> None:
    with asking(StandIn(["No."])) as client:
        for tools in ([weather, weather], "weather", [{"name": "x"}]):
            with pytest.raises(edge.UnprocessableEntityError, match="tools"):
                client.chat.run(tools=tools, **HOW)  # type: ignore[arg-type]
        with pytest.raises(edge.UnprocessableEntityError, match="Toolset has its own"):
            client.chat.run(tools=Toolset([weather]), allow=["weather"], **HOW)


def test_functions_of_the_program_are_allowed_unless_somebody_is_asked() -> None:
    for how, n in (({}, 1), ({"allow": []}, 0), ({"allow": ["count"]}, 1), ({"ask": lambda *_: False}, 0)):
        COUNTED.clear()
        with asking(StandIn([call("count")], ["Done."])) as client:
            client.chat.run(tools=[count], **HOW, **how)  # type: ignore[arg-type]
        assert len(COUNTED) == n, how
    with asking(StandIn([call("count")], ["Done."])) as client:
        assert client.chat.run(tools=Toolset([count]), **HOW).messages[-2]["content"][0]["output"].startswith("Error")


def test_events_tell_every_answer_and_every_call() -> None:
    told: list[Event] = []
    engine = StandIn(["Let me see.", call("weather", city="Rome")], ["Cl", "ear."])
    with asking(engine) as client:
        events = list(client.chat.run_stream(tools=[weather], on_event=told.append, **HOW))
    assert told == events
    kinds = [type(event) for event in events if not isinstance(event, edge.ChunkChatResponse)]
    assert kinds == [ToolStarted, ToolEnded, RunResponse]
    (started, ended) = (event for event in events if isinstance(event, ToolStarted | ToolEnded))
    assert started.call == ended.call and isinstance(ended, ToolEnded) and "clear" in ended.result.text
    chunks = [event.responses[0].chunk.content for event in events if isinstance(event, edge.ChunkChatResponse)]
    assert "" in chunks and chunks[-1] == "Clear."


def test_the_demand_for_a_call_is_one_for_the_first_answer() -> None:
    engine = StandIn([call("weather", city="Rome")], ["Clear."])
    with asking(engine) as client:
        client.chat.run(tools=[weather], tool_choice="tool", **HOW)
    assert [options.form is not None for _, options in engine.asked] == [True, False]


def test_options_hold_for_every_answer() -> None:
    engine = StandIn([call("weather", city="Rome")], ["Clear."])
    with asking(engine) as client:
        client.chat.run(tools=[weather], max_tokens=7, temperature=0, seed=3, stop=["x"], **HOW)
    assert [(o.max_tokens, o.temperature, o.seed, o.stop) for _, o in engine.asked] == [(7, 0, 3, ("x",))] * 2


IMAGE = np.zeros((64, 64, 3), np.uint8)


@edge.tool(read_only=True)
def look() -> object:
    """Look through the camera."""
    return ["Seen just now.", IMAGE]


def test_images_of_a_tool_are_part_of_the_conversation() -> None:
    engine = StandIn([call("look")], ["Nothing."])
    with asking(engine) as client:
        answer = client.chat.run(tools=[look], **HOW)
    output = answer.messages[-2]["content"][0]["output"]
    assert output[0] == {"type": "text", "text": "Seen just now."} and output[1]["image"] is IMAGE
    assert "Seen just now.<image>[Media]</image>" in engine.read().replace("\n", "")


def test_a_model_of_text_alone_is_told_that_there_is_an_image() -> None:
    engine = StandIn([call("look")], ["Nothing."], vision=False)
    with asking(engine) as client:
        assert client.chat.run(tools=[look], **HOW).text == "Nothing."
    assert "Seen just now.\n[image, which cannot be shown: reka-edge accepts text only]" in engine.read()


def test_only_the_newest_images_stay() -> None:
    engine = StandIn([call("look")] * 3, [call("look")] * 4, ["Done."])
    with asking(engine) as client:
        answer = client.chat.run(tools=[look], **HOW)
    images = [
        any("image" in part for part in result["output"])
        for message in answer.messages if isinstance(message, dict) and message["role"] == "tool_output"
        for result in message["content"]
    ]  # fmt: skip
    assert images == [False, *[True] * 6] and "[image of an earlier result]" in engine.read()


def test_a_result_that_does_not_fit_is_told_to_be_too_long() -> None:
    @edge.tool(read_only=True)
    def novel() -> str:
        return "word " * 1500

    engine = StandIn([call("novel")], ["Too long."])
    engine.longest = 3000
    with asking(engine) as client:
        assert client.chat.run(tools=[novel], **HOW).text == "Too long."
        assert "Error: the result does not fit" in engine.read()
        engine.longest = 10
        with pytest.raises(edge.ApiError, match="context holds 10"):
            client.chat.run(tools=[novel], **HOW)


def test_a_run_is_cancelled_while_a_tool_runs() -> None:
    cancel, gate = threading.Event(), threading.Event()

    @edge.tool(read_only=True)
    def hang() -> bool:
        cancel.set()
        return gate.wait()

    engine = StandIn([call("hang"), call("hang")])
    with asking(engine) as client:
        answer = client.chat.run(tools=[hang], cancel=cancel, **HOW)
    gate.set()
    assert answer.finish_reason == "stopped" and len(engine.asked) == 1
    assert [result["output"] for result in answer.messages[-1]["content"]] == [
        "Error: the call of hang was stopped", "Error: the call was stopped",
    ]  # fmt: skip


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_of_the_async_client_is_cancelled_while_a_tool_runs(is_async: bool) -> None:
    cancel, gate, ended = threading.Event(), threading.Event(), threading.Event()

    def hang() -> bool:
        cancel.set()
        return gate.wait()

    async def wait() -> None:
        cancel.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def asked() -> RunResponse:
        engine = StandIn([call("hang"), call("hang")])
        tool = edge.tool(name="hang", read_only=True)(wait if is_async else hang)
        async with async_client(engine) as client:
            return await client.chat.run(tools=[tool], cancel=cancel, **HOW)

    answer = asyncio.run(asked())
    gate.set()
    assert answer.finish_reason == "stopped" and ended.is_set() is is_async
    assert [result["output"] for result in answer.messages[-1]["content"]] == [
        "Error: the call of hang was stopped", "Error: the call was stopped",
    ]  # fmt: skip


def test_a_generation_of_the_async_client_is_cancelled() -> None:
    cancel = threading.Event()
    cancel.set()

    async def asked() -> RunResponse:
        async with async_client(StandIn(["One", " two", " three"])) as client:
            return await client.chat.run(tools=[weather], cancel=cancel, **HOW)

    answer = asyncio.run(asked())
    assert answer.finish_reason == "stopped"


def test_closing_a_stream_of_events_stops_the_generation() -> None:
    engine = StandIn(["One", " two", " three"])
    engine.n_free = 1
    engine.gate.clear()
    with asking(engine) as client:
        events = client.chat.run_stream(tools=[weather], **HOW)
        next(events)
        events.close()
        assert engine.cancelled == engine.handles
        engine.gate.set()


def test_the_async_client_does_the_same() -> None:
    loops: list[object] = []

    @edge.tool
    async def later(city: str) -> str:
        """Tell it later."""
        loops.append(asyncio.get_running_loop())
        return f"clear in {city}"

    async def ask(name: str, arguments: Mapping[str, object]) -> bool:
        return arguments == {"city": "Rome"}

    async def asked() -> RunResponse:
        engine = StandIn([call("later", city="Rome"), call("later", city="Oslo"), call("count")], ["Clear."])
        async with async_client(engine) as client:
            answer = await client.chat.run(tools=[later, count], ask=ask, **HOW)
            loops.append(asyncio.get_running_loop())
            return answer

    answer = asyncio.run(asked())
    assert answer.text == "Clear." and loops[0] is loops[1] and len(loops) == 2
    outputs = [result["output"] for result in answer.messages[-2]["content"]]
    assert outputs[0] == "clear in Rome" and all("refused by the user" in output for output in outputs[1:])


def test_cancelling_a_task_ends_its_run() -> None:
    begun, gate = threading.Event(), threading.Event()

    @edge.tool(read_only=True)
    def hang() -> bool:
        begun.set()
        return gate.wait()

    async def asked() -> int:
        engine = StandIn([call("hang")])
        async with async_client(engine) as client:
            task = asyncio.create_task(client.chat.run(tools=[hang], **HOW))
            await asyncio.to_thread(begun.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return len(engine.asked)

    assert asyncio.run(asked()) == 1
    gate.set()


def test_both_clients_have_the_parameters_of_a_run() -> None:
    own = {"max_rounds", "allow", "ask", "on_event", "cancel"}
    for method in (ChatClient.run, ChatClient.run_stream, AsyncChatClient.run, AsyncChatClient.run_stream):
        assert set(inspect.signature(method).parameters) == set(inspect.signature(ChatClient.create).parameters) | own


@edge.tool(read_only=True)
def light(room: str, level: int, mode: str | None = None, scenes: list[bool] | None = None) -> str:
    """Set a light."""
    return f"{room} is at {level}"


def test_a_model_held_to_the_schema_calls_validly_every_time() -> None:
    with edge.Reka(model="reka-edge-tiny") as client:
        for seed in range(8):
            told: list[Event] = []
            answer = client.chat.run(
                model="reka-edge", messages=ASK, tools=[light, weather], tool_choice="tool", max_rounds=1,
                max_tokens=200, temperature=1.0, seed=seed, on_event=told.append,
            )  # fmt: skip
            (made, *_) = (event for event in told if isinstance(event, ToolEnded))
            assert not made.result.is_error, made.result.text
            schema = {"light": light, "weather": weather}[made.call.name].parameters
            jsonschema.validate(made.call.parameters, dict(schema))
            assert answer.messages[1].tool_calls == [made.call] and answer.responses[0].message.tool_calls is None
