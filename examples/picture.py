"""A question about a picture: by its file, and by a data URL, which also works over HTTP."""

import base64
from pathlib import Path

from edge import ChatMessage, Reka

IMAGE = Path(__file__).parents[1] / "models" / "sample.png"
DATA_URL = "data:image/png;base64," + base64.b64encode(IMAGE.read_bytes()).decode()

with Reka() as client:
    for url in (str(IMAGE), DATA_URL):
        content = [
            {"type": "image_url", "image_url": url},
            {"type": "text", "text": "What colours and shapes are present?"},
        ]
        response = client.chat.create(model="reka-edge", messages=[ChatMessage(role="user", content=content)])
        print(response.responses[0].message.content)
