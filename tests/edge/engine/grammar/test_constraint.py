"""Answers held to schemas: every one that is accepted is an instance, however few tokens there are."""

import json
import random
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import jsonschema
import pytest

from edge.engine import sampling
from edge.engine.engine import Engine, Handle, Options, Progress
from edge.engine.grammar.format import Format, call_format, schema_format
from edge.errors import SchemaError
from tests.edge.asking import ask
from tests.edge.engine.grammar.schemas import FORMATS, random_schema

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 14}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def engine(int8_bundle: Path) -> Iterator[Engine]:
    with Engine.open(int8_bundle) as engine:
        yield engine


def form_of(schema: Mapping[str, object]) -> Format:
    return schema_format(schema, field="response_format")


def answer(engine: Engine, form: Format, max_tokens: int, seed: int = 0, temperature: float = 1.0) -> Progress:
    how = Options(max_tokens, temperature, 1.0, 512, 0.0, 0.0, seed, (), fresh=True, form=form)
    return engine.stream(ask(engine, "Hi"), how).result()


def needed(engine: Engine, form: Format) -> int:
    """How many tokens a format takes at least, by the refusal of a request for one."""
    with pytest.raises(SchemaError, match="expected at least") as caught:
        answer(engine, form, 1)
    found = re.search(r"at least (\d+)", str(caught.value))
    assert found
    return int(found.group(1))


def check_schemas(engine: Engine, seeds: range) -> None:
    for seed in seeds:
        schema, rng = random_schema(seed), random.Random(seed)
        form = form_of(schema)
        try:
            n_needed = needed(engine, form) if rng.random() < 0.7 else 1
        except pytest.fail.Exception:  # one token is enough
            n_needed = 1
        try:
            last = answer(engine, form, n_needed + rng.choice((0, 0, 1, 2, 3, 5, 10, 30)), seed)
        except SchemaError as error:
            if "expected at least" not in str(error):
                pytest.fail(f"seed {seed}: {error}")
            continue
        try:
            jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(json.loads(last.text))
        except (ValueError, jsonschema.ValidationError) as error:
            pytest.fail(f"seed {seed}: {last.text!r} for {schema}: {error}")


def test_accepted_schemas_are_always_satisfied(engine: Engine) -> None:
    check_schemas(engine, range(12))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_schemas_are_always_satisfied(engine: Engine) -> None:
    check_schemas(engine, range(12, 1012))


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 30])
def test_a_number_alone_ends_where_no_digit_may_follow(engine: Engine, max_tokens: int) -> None:
    for seed in range(25):
        last = answer(engine, form_of({"type": "number"}), max_tokens, seed)
        jsonschema.validate(json.loads(last.text), {"type": "number"})


@pytest.mark.parametrize("extra", range(8))
def test_the_shortest_instance_fits_exactly_what_was_named(engine: Engine, extra: int) -> None:
    form = form_of(CITY)
    n_needed = needed(engine, form)
    last = answer(engine, form, n_needed + extra, seed=extra)
    jsonschema.validate(json.loads(last.text), CITY)
    assert last.finish_reason == "stop" and last.output_tokens <= n_needed + extra
    with pytest.raises(SchemaError, match=f"at least {n_needed}"):
        answer(engine, form, n_needed - 1)


@pytest.mark.parametrize("max_tokens", [40, 60, 100])
@pytest.mark.parametrize("seed", range(3))
def test_a_call_is_one_call_of_a_tool_on_offer(engine: Engine, max_tokens: int, seed: int) -> None:
    tools: dict[str, Mapping[str, object]] = {"forecast": CITY, "noop": {"type": "object"}}
    last = answer(engine, call_format(tools, field="tools"), max_tokens, seed)
    assert last.text.startswith("<tool_call>\n") and last.text.endswith("</tool_call>")
    call = json.loads(last.text.removeprefix("<tool_call>").removesuffix("</tool_call>"))
    assert list(call) == ["name", "arguments"]
    jsonschema.validate(call["arguments"], tools[call["name"]])
    assert last.finish_reason == "stop"


UNCOVERED: list[tuple[dict[str, object], str]] = [
    ({"type": "array", "uniqueItems": True}, "uniqueItems"),
    ({"not": {"type": "string"}}, "not"),
    ({"type": "object", "dependentRequired": {"a": ["b"]}}, "dependentRequired"),
    ({"if": {"type": "string"}, "then": {"minLength": 3}}, "if"),
    ({"type": "string", "pattern": "^(?=a)b"}, "look-around"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
]


@pytest.mark.parametrize(("schema", "word"), UNCOVERED)
def test_a_keyword_that_is_not_covered_is_named(engine: Engine, schema: dict[str, object], word: str) -> None:
    with pytest.raises(SchemaError, match=word):
        answer(engine, form_of(schema), 100)


@pytest.mark.parametrize("over", [-1, 0, 1])
@pytest.mark.parametrize(
    ("most", "kind", "words"),
    [(2000, "properties", "2000 properties that are not required"), (64, "patternProperties", "64 patternProperties")],
)
def test_what_takes_long_to_compile_is_bounded_over_all_tools(most: int, kind: str, words: str, over: int) -> None:
    def some(letter: str, n: int) -> dict[str, object]:
        return {kind: {f"{letter}{i}": {} for i in range(n)}}

    halves: dict[str, object] = {"a": some("a", most // 4), "b": some("b", most // 4)}
    one = {"type": "object", "properties": halves, "required": ["a", "b"]}
    rest = {"allOf": [{**some("d", most // 4 + over), "required": ["c"]}, {"properties": {"c": {}}, "required": ["c"]}]}
    tools = {"one": one, "two": {**one, "properties": {"a": some("e", most // 4), "b": rest}}}
    if over <= 0:
        call_format(tools, field="tools")
        return
    with pytest.raises(SchemaError, match=f"^tools: expected at most {words}, got {most + 1}$"):
        call_format(tools, field="tools")


@pytest.mark.parametrize("n", [500, 501])
def test_what_takes_long_to_compile_is_bounded_in_one_object(n: int) -> None:
    schema: dict[str, object] = {"properties": {f"p{i}": {} for i in range(n)}}
    if n == 500:
        assert form_of(schema).example is not None
        return
    with pytest.raises(SchemaError, match="at most 500 properties of one object that are not required, got 501"):
        form_of(schema)


@pytest.mark.parametrize("n", [2000, 2001])
@pytest.mark.parametrize("key", ["anyOf", "enum"])
def test_what_takes_long_to_compile_is_bounded_among_alternatives(key: str, n: int) -> None:
    schema = {key: [{"const": i} if key == "anyOf" else [i] for i in range(n)]}
    if n == 2000:
        form_of(schema)
        return
    with pytest.raises(SchemaError, match="at most 2000 schemas in anyOf or oneOf, and objects and lists in enum, got"):
        form_of(schema)


@pytest.mark.parametrize(
    ("divisors", "is_taken"),
    [
        ([7], True), ([20_000], True), ([20_001], False), ([1_000_007], False), ([10**30], False), ([1e-30], False),
        ([0.01], True), ([0.0007], True), ([200.01], False), ([9999, 9999], True), ([9999, 9998], False),
        ([2, 3, 5, 7, 11, 13], True), ([2, 3, 5, 7, 11, 13, 17], False), ([0.01, 1000], True), ([7e-9, 3], False),
    ],
)  # fmt: skip
def test_divisors_take_no_more_states_than_there_is_time_for(divisors: list[float], is_taken: bool) -> None:
    schema: dict[str, object] = {"allOf": [{"type": "number", "multipleOf": divisor} for divisor in divisors]}
    if is_taken:
        form_of(schema)
        return
    with pytest.raises(SchemaError, match="^response_format: multipleOf: expected divisors of at most 20000 in sum"):
        form_of(schema)


def test_a_required_name_that_is_none_is_left_to_the_compiler(engine: Engine) -> None:
    with pytest.raises(SchemaError, match="response_format"):
        answer(engine, form_of({"type": "object", "required": [{}, ["a"]]}), 10)


def test_a_schema_without_an_instance_is_refused(engine: Engine) -> None:
    endless: dict[str, object] = {"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]}
    with pytest.raises(SchemaError, match="no instance"):
        answer(engine, form_of(endless), 1000)


def test_an_object_has_no_key_twice(engine: Engine) -> None:
    schema: dict[str, object] = {"type": "object", "minProperties": 4, "additionalProperties": {"type": "integer"}}
    for seed in range(2):
        text = answer(engine, form_of(schema), 40, seed).text
        assert len(json.loads(text)) == len(json.loads(text, object_pairs_hook=list)) >= 4


def test_the_context_is_a_limit_too(engine: Engine) -> None:
    long = {"type": "array", "items": {"type": "integer"}, "minItems": 700}
    with pytest.raises(SchemaError, match="there is room for"):
        answer(engine, form_of(long), 100_000)


MANY: dict[str, object] = {"type": "array", "items": {"type": "integer"}, "minItems": 12}


@pytest.mark.parametrize("form", [form_of(MANY), call_format({"forecast": CITY}, field="tools")])
def test_an_answer_that_is_hurried_takes_the_shortest_way_to_its_end(engine: Engine, form: Format) -> None:
    how = Options(600, 1.0, 1.0, 512, 0.0, 0.0, 1, (), fresh=True, form=form)
    handles: list[Handle] = []

    def ask_in_a_hurry(_: object) -> None:
        handles.append(engine.stream(ask(engine, "Hi"), how))
        handles[0].hurry()

    engine._worker.call(ask_in_a_hurry)
    last = handles[0].result()
    assert last.finish_reason == "stop" and last.output_tokens == needed(engine, form)
    assert last.output_tokens < answer(engine, form, 600, seed=1).output_tokens


def test_stop_strings_do_not_cut_an_instance(engine: Engine) -> None:
    how = Options(60, 1.0, 1.0, 512, 0.0, 0.0, 3, ('"', "{", ":"), fresh=True, form=form_of(CITY))
    jsonschema.validate(json.loads(engine.stream(ask(engine, "Hi"), how).result().text), CITY)


def test_a_held_answer_leaves_others_as_they_were(engine: Engine) -> None:
    plain = Options(16, 0.0, 1.0, 512, 0.0, 0.0, 0, (), fresh=True)
    before = engine.stream(ask(engine, "Hi"), plain).result()
    answer(engine, form_of(CITY), 60)
    assert engine.stream(ask(engine, "Hi"), plain).result() == before


def test_the_work_of_holding_is_counted_without_sampling(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = sampling._draw

    def slowly(*arguments: object) -> int:
        time.sleep(0.05)
        return draw(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sampling, "_draw", slowly)
    before = engine.stats().held
    last = answer(engine, form_of(CITY), 40)
    after = engine.stats().held
    assert after.n_tokens - before.n_tokens == last.output_tokens >= 10
    assert 0 < after.seconds - before.seconds < last.output_tokens * 0.05


def test_scores_are_those_of_the_model(engine: Engine) -> None:
    how = Options(8, 0.0, 1.0, 512, 0.0, 0.0, 0, (), fresh=True, top_logprobs=3)
    last = engine.stream(ask(engine, "Hi"), how).result()
    assert len(last.scores) == last.output_tokens
    for score in last.scores:  # greedy: the most likely token is the one chosen
        assert score.most_likely[0] == (score.data, score.log_probability)
        assert len(score.most_likely) == 3 and [value for _, value in score.most_likely] == sorted(
            (value for _, value in score.most_likely), reverse=True
        )
