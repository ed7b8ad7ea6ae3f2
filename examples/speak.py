"""An answer as speech, sentence by sentence while it is generated; needs espeak-ng, or a voice that is installed.

`Loudspeaker()` plays it; a file in its place is written.
"""

from collections.abc import Iterator

from edge import ChatMessage, Loudspeaker, Reka, Speaker


def pieces(client: Reka) -> Iterator[str]:
    """Yield what every chunk adds to an answer."""
    shown = ""
    question = ChatMessage(role="user", content="Who are you?")
    for chunk in client.chat.create_stream(model="reka-edge", messages=[question]):
        text = str(chunk.responses[0].chunk.content)
        yield text.removeprefix(shown)
        shown = text


with Reka() as client, Speaker() as speaker, Loudspeaker("answer.wav") as loudspeaker:
    loudspeaker.play(speaker.say(pieces(client)))
    for spoken in speaker.say("It is in answer.wav. That was 1 answer."):
        print(f"{len(spoken.samples) / spoken.rate_hz:.1f} s: {spoken.text}")
