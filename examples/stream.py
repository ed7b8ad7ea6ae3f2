"""Print an answer as it is written: every chunk holds the whole text so far."""

from edge import ChatMessage, Reka

with Reka() as client:
    shown = ""
    for chunk in client.chat.create_stream(
        model="reka-edge",
        messages=[ChatMessage(role="user", content="Who are you?")],
    ):
        text = str(chunk.responses[0].chunk.content)
        print(text.removeprefix(shown), end="", flush=True)
        shown = text
    print()
