"""Put words into the assistant's mouth: its turn goes on where the last message ends."""

from edge import ChatMessage, Reka

BEGUN = "red, orange,"

with Reka() as client:
    response = client.chat.create(
        model="reka-edge",
        messages=[
            ChatMessage(role="user", content="Which colours do you know?"),
            ChatMessage(role="assistant", content=BEGUN),
        ],
    )
    print(f"{BEGUN}{response.responses[0].message.content}")
