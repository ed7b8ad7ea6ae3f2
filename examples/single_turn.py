"""One question, one answer."""

from edge import ChatMessage, Reka

with Reka() as client:
    response = client.chat.create(
        model="reka-edge",
        messages=[ChatMessage(role="user", content="What can you do?")],
    )
    print(response.responses[0].message.content)
