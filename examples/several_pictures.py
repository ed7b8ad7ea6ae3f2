"""Two pictures in one message; the second is drawn here and handed over as an array."""

from pathlib import Path

import numpy as np

from edge import ChatMessage, Reka

IMAGE = Path(__file__).parents[1] / "models" / "sample.png"
drawn = np.full((240, 240, 3), 255, np.uint8)
drawn[70:170, 70:170] = (220, 30, 30)  # a red square

with Reka() as client:
    content = [
        {"type": "image_url", "image_url": str(IMAGE)},
        {"type": "image", "image": drawn},
        {"type": "text", "text": "What colours and shapes are present in both images?"},
    ]
    response = client.chat.create(model="reka-edge", messages=[ChatMessage(role="user", content=content)])
    print(response.responses[0].message.content)
