"""Whether a question is about what a camera sees: told by its words, so that no second answer is needed to find out."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Look = Literal["auto", "always", "never"]

# Words and beginnings of words (with a *) that ask for a look, by language.
WORDS: Mapping[str, str] = MappingProxyType(
    {
        "en": (
            "see* saw look* watch* show* picture* image* photo* camera* visible colour* color* shape* wearing read "
            "holding describe"
        ),
        "de": "sieh* seh* schau* guck* zeig* bild* foto* kamera* sichtbar* farbe* form formen lies vorlesen beschreib*",
        "fr": "vois voir voyez vu* regard* montr* image* photo* caméra* visible* couleur* forme* lis lire décri*",
        "es": "ves ver ve veo mira* muestr* imagen* foto* cámara* visible* color* forma* lee leer describ*",
        "it": "vedi vedere vede guard* mostr* immagin* foto* fotocamera* visibil* colore colori form* leggi descriv*",
    }
)
# Phrases that point at something, which only a look can tell.
PHRASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "en": (r"what(?:'s| is| are) (?:this|that|these|those|in front|on the (?:table|desk|wall|floor))", r"who(?:'s| is) (?:this|that|there|at the door|in front)", r"how many\b.*\b(?:are|is) there", r"is (?:there|that|this) (?:a|an|any)", r"where(?:'s| is| are) (?:the|my)"),  # noqa: E501
        "de": (r"was ist (?:das|dies|hier|da\b)", r"wer ist (?:das|da\b|hier)", r"wie viele\b.*\b(?:gibt|sind)",
               r"wo (?:ist|sind|liegt|liegen|steht|stehen) (?:der|die|das|mein)"),
        "fr": (r"qu'est-ce que c'est", r"c'est quoi", r"qui est (?:là|ce)", r"combien\b.*\by a",
               r"où (?:est|sont) (?:le|la|l'|les|mon|ma|mes)"),
        "es": (r"qué es (?:esto|eso|aquello)", r"quién (?:es|está)", r"cuánt[oa]s\b.*\bhay",
               r"dónde est[áa]n? (?:el|la|los|las|mi)"),
        "it": (r"cos(?:a|') ?è (?:questo|quello)?", r"chi è", r"quant[ie]\b.*\bci sono",
               r"dove (?:è|sono) (?:il|lo|la|l'|i|gli|le)\b", r"dov'è"),
    }
)  # fmt: skip


def asks_to_look(question: str, language: str) -> bool:
    """Return whether a question is about what is seen; the words of a language that is not known are English."""
    code = language.lower().partition("-")[0]
    words = WORDS.get(code, WORDS["en"])
    text = question.casefold().replace("’", "'")
    if any(re.search(rf"\b(?:{phrase})", text) for phrase in PHRASES.get(code, PHRASES["en"])):
        return True
    pattern = "|".join(re.escape(word).replace(r"\*", r"\w*") for word in words.split())
    return re.search(rf"\b(?:{pattern})\b", text) is not None


def wants_image(look: Look, question: str | None, language: str) -> bool:
    """Return whether a question gets an image. question: None where its words are not known: then "auto" looks."""
    if look == "auto":
        return question is None or asks_to_look(question, language)
    return look == "always"
