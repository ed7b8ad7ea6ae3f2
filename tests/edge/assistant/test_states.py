"""The states of an assistant: no series of events leaves it stuck, with two answers, or with one that nobody wants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.assistant.states import TABLE, Act, State, What, after

EVENTS = st.lists(st.sampled_from(list(What)), max_size=40)
REACHES_IDLE = (What.STOP, What.UNMUTE, What.BACK, What.SPOKEN, What.SILENCE)


def run(events: list[What], state: State = State.IDLE) -> list[tuple[State, What, State, tuple[Act, ...]]]:
    steps = []
    for what in events:
        step = after(state, what)
        steps.append((state, what, step.state, step.acts))
        state = step.state
    return steps


def test_a_question_and_its_answer() -> None:
    events = [
        What.WAKE,
        What.UTTERANCE,
        What.SENTENCE,
        What.SPOKEN,
        What.SPEECH,
        What.UTTERANCE,
        What.SPOKEN,
        What.SILENCE,
    ]
    assert [state for _, _, state, _ in run(events)] == [
        State.LISTENING, State.THINKING, State.SPEAKING, State.FOLLOW_UP,
        State.LISTENING, State.THINKING, State.FOLLOW_UP, State.IDLE,
    ]  # fmt: skip


@pytest.mark.parametrize("state", [State.THINKING, State.SPEAKING, State.ERROR])
@pytest.mark.parametrize("what", [What.WAKE, What.TALK])
def test_whoever_calls_while_it_answers_is_listened_to(state: State, what: What) -> None:
    step = after(state, what)
    assert step.state is State.LISTENING
    assert step.acts[:3] == (Act.CANCEL, Act.HUSH, Act.LISTEN)


@pytest.mark.parametrize("what", [what for what in What if what not in (What.MUTE, What.UNMUTE)])
def test_a_muted_assistant_stays_muted(what: What) -> None:
    assert after(State.MUTED, what).state is State.MUTED
    assert Act.LISTEN not in after(State.MUTED, what).acts


@pytest.mark.parametrize("what", [What.WAKE, What.TALK])
def test_without_a_microphone_nobody_is_listened_to(what: What) -> None:
    assert after(State.LOST, what) == after(State.LOST, What.START)


@pytest.mark.parametrize("state", [State.MUTED, State.LOST])
@pytest.mark.parametrize("what", [What.STOP, What.MUTE])
def test_a_timer_that_is_told_without_a_microphone_ends_when_it_is_told_to(state: State, what: What) -> None:
    assert after(state, what).acts[:2] == (Act.CANCEL, Act.HUSH)


def test_a_timer_that_is_told_while_muted_does_not_go_on_beside_a_question() -> None:
    steps = run([What.MUTE, What.RING, What.UNMUTE, What.WAKE])
    acts = [act for _, _, _, acts in steps for act in acts]
    assert Act.CANCEL in acts[acts.index(Act.RING) : acts.index(Act.LISTEN)]


@given(EVENTS)
def test_from_anywhere_it_comes_back_to_idle(events: list[What]) -> None:
    state = run(events)[-1][2] if events else State.IDLE
    for _ in range(2):
        for what in REACHES_IDLE:
            if state is not State.IDLE:
                state = after(state, what).state
    assert state is State.IDLE


@given(EVENTS)
def test_there_is_one_answer_at_a_time_and_none_that_nobody_wants(events: list[What]) -> None:
    answers = False
    for before, what, state, acts in run(events):
        for act in acts:
            if act is Act.CANCEL:
                answers = False
            if act in (Act.ASK, Act.APOLOGIZE):
                assert not answers, f"{before} on {what} begins a second answer"
                answers = True
        if what in (What.SPOKEN, What.EMPTY) and before in (State.THINKING, State.SPEAKING, State.ERROR):
            answers = False
        if state in (State.IDLE, State.LISTENING, State.FOLLOW_UP, State.MUTED, State.LOST):
            assert not answers, f"{before} on {what} leaves an answer behind in {state}"


@given(EVENTS)
def test_only_an_utterance_is_asked(events: list[What]) -> None:
    for before, what, _, acts in run(events):
        assert (Act.ASK in acts) == (before is State.LISTENING and what is What.UTTERANCE)


@given(EVENTS)
def test_what_means_nothing_changes_nothing(events: list[What]) -> None:
    for before, what, state, acts in run(events):
        if what not in TABLE[before]:
            assert (state, acts) == (before, ())


def test_every_state_can_be_left() -> None:
    assert set(TABLE) == set(State)
    for state, rows in TABLE.items():
        assert any(step.state is not state for step in rows.values())
