"""Which questions are about what is seen, in each language, and the turns that are remembered."""

import pytest

from edge.assistant.history import History
from edge.assistant.looking import asks_to_look, wants_image
from edge.assistant.phrases import PHRASES, apology
from edge.chat.reply import api_errors
from edge.errors import ContextLengthError, DeviceError, EdgeError, RuntimeFailure


@pytest.mark.parametrize(
    ("language", "question"),
    [
        ("en", "What do you see?"), ("en", "What's this?"), ("en", "Who is at the door?"),
        ("en", "What colour is my mug?"), ("en", "How many apples are there?"), ("en", "Read the label to me."),
        ("en-GB", "Is there a cat on the sofa?"),
        ("de", "Was siehst du?"), ("de", "Was ist das?"), ("de", "Welche Farbe hat die Tasse?"),
        ("fr", "Que vois-tu ?"), ("fr", "Qu’est-ce que c’est ?"), ("es", "¿Qué ves?"), ("es", "¿Qué es esto?"),
        ("en", "And where is the red circle?"), ("en", "Where are my keys?"), ("de", "Wo liegen die Schlüssel?"),
        ("fr", "Où sont mes clés ?"), ("es", "¿Dónde están las llaves?"), ("it", "Dov’è il gatto?"),
        ("it", "Che cosa vedi?"), ("nl", "what do you see"),
    ],
)  # fmt: skip
def test_a_question_about_what_is_seen(language: str, question: str) -> None:
    assert asks_to_look(question, language)


@pytest.mark.parametrize(
    ("language", "question"),
    [
        ("en", "What is the capital of France?"), ("en", "Tell me a joke."), ("en", "How are you?"),
        ("en", "Set a timer for ten minutes."), ("en", "Are you ready?"), ("en", "Where is Paris?"),
        ("de", "Wie spät ist es?"),
        ("de", "Erzähl mir einen Witz."), ("fr", "Quelle heure est-il ?"), ("es", "¿Qué hora es?"),
        ("it", "Che ore sono?"),
    ],
)  # fmt: skip
def test_a_question_about_something_else(language: str, question: str) -> None:
    assert not asks_to_look(question, language)


def test_whether_it_looks_can_be_settled() -> None:
    assert wants_image("always", "Tell me a joke.", "en")
    assert not wants_image("never", "What do you see?", "en")
    assert wants_image("auto", None, "en")  # its words are not known


def test_turns_are_forgotten_by_number_and_by_age() -> None:
    history = History(turns=2, minutes=1)
    for number, at_s in enumerate((0.0, 10.0, 50.0)):
        history.add([{"role": "user", "content": str(number)}], at_s)
    assert [message["content"] for message in history.messages(60, audio=5)] == ["1", "2"]
    assert [message["content"] for message in history.messages(75, audio=5)] == ["2"]
    assert history.messages(200, audio=5) == []


def test_no_turns_are_kept_where_none_are_wanted() -> None:
    history = History(turns=0, minutes=5)
    history.add([{"role": "user", "content": "1"}], 0)
    assert history.messages(0, audio=5) == []


def test_of_turns_with_audio_so_many_are_kept_as_a_request_may_have() -> None:
    history = History(turns=8, minutes=5)
    for number in range(4):
        content = [{"type": "audio", "audio": number}] if number != 1 else [{"type": "text", "text": "1"}]
        history.add([{"role": "user", "content": content}, {"role": "assistant", "content": str(number)}], 0)
    kept = [message["content"] for message in history.messages(0, audio=2) if message["role"] == "assistant"]
    assert kept == ["1", "2", "3"]


def test_every_language_has_every_phrase() -> None:
    assert all(set(phrases) == set(PHRASES["en"]) for phrases in PHRASES.values())
    assert all(
        text.endswith(".") and not any(c.isdigit() for c in text) for p in PHRASES.values() for text in p.values()
    )


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (ContextLengthError(9000, 2048), "long"),
        (DeviceError("camera 0: gone"), "device"),
        (RuntimeFailure("Kernel 7"), "failed"),
        (EdgeError("/srv/x"), "failed"),
    ],
)
def test_an_apology_names_what_failed_and_no_detail(error: EdgeError, key: str) -> None:
    for language in PHRASES:
        assert apology(error, language) == PHRASES[language][key]
    with pytest.raises(EdgeError) as wrapped, api_errors():
        raise error
    assert apology(wrapped.value, "en") == PHRASES["en"][key]
