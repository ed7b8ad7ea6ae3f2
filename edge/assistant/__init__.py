"""An assistant for a microphone, a loudspeaker and a camera: it wakes, listens, looks, answers and speaks."""
