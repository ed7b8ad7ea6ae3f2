"""What an assistant says of its own, by language: what went wrong, in one plain sentence, and timers."""

from collections.abc import Mapping
from types import MappingProxyType

from edge.errors import (
    ContextLengthError,
    DeviceError,
    EdgeError,
    MediaError,
    MemoryExhausted,
    UnknownModelError,
)

PHRASES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "en": {
            "failed": "Something went wrong, please ask again.",
            "device": "I cannot see anything, the camera does not answer.",
            "media": "I could not make out what you sent.",
            "memory": "I am out of memory.",
            "long": "That was too long for me, please ask in fewer words.",
            "model": "My model is not installed.",
            "timer": "Your timer is done.",
        },
        "de": {
            "failed": "Etwas ist schiefgegangen, bitte frag noch einmal.",
            "device": "Ich sehe nichts, die Kamera antwortet nicht.",
            "media": "Das konnte ich nicht erkennen.",
            "memory": "Mir fehlt der Speicher.",
            "long": "Das war zu lang für mich, bitte frag mit weniger Worten.",
            "model": "Mein Modell ist nicht installiert.",
            "timer": "Dein Timer ist abgelaufen.",
        },
        "fr": {
            "failed": "Quelque chose n'a pas marché, demande encore une fois.",
            "device": "Je ne vois rien, la caméra ne répond pas.",
            "media": "Je n'ai pas pu reconnaître cela.",
            "memory": "Je n'ai plus de mémoire.",
            "long": "C'était trop long pour moi, demande en moins de mots.",
            "model": "Mon modèle n'est pas installé.",
            "timer": "Ton minuteur est terminé.",
        },
        "es": {
            "failed": "Algo salió mal, pregunta otra vez.",
            "device": "No veo nada, la cámara no responde.",
            "media": "No pude reconocer eso.",
            "memory": "No me queda memoria.",
            "long": "Eso fue demasiado largo, pregunta con menos palabras.",
            "model": "Mi modelo no está instalado.",
            "timer": "Tu temporizador ha terminado.",
        },
        "it": {
            "failed": "Qualcosa è andato storto, chiedi di nuovo.",
            "device": "Non vedo niente, la telecamera non risponde.",
            "media": "Non sono riuscito a riconoscerlo.",
            "memory": "Ho finito la memoria.",
            "long": "Era troppo lungo per me, chiedi con meno parole.",
            "model": "Il mio modello non è installato.",
            "timer": "Il tuo timer è finito.",
        },
    }
)

_KEYS: tuple[tuple[type[EdgeError], str], ...] = (
    (ContextLengthError, "long"),
    (MemoryExhausted, "memory"),
    (DeviceError, "device"),
    (MediaError, "media"),
    (UnknownModelError, "model"),
)


def phrase(key: str, language: str) -> str:
    """Return a phrase in a language, in English where it is not known."""
    return PHRASES.get(language.lower().partition("-")[0], PHRASES["en"])[key]


def apology(error: EdgeError, language: str) -> str:
    """Return what is said of an error: no names, no numbers."""
    cause = cause_of(error)
    key = next((key for kind, key in _KEYS if isinstance(cause, kind)), "failed")
    return phrase(key, language)


def cause_of(error: EdgeError) -> EdgeError:
    """Return the error of this package that an API's error stands for."""
    while isinstance(error.__cause__, EdgeError):
        error = error.__cause__
    return error
