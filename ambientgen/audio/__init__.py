"""Samples: clips, mixing, loops, loudness, health, encoding, pictures. Knows nothing of engines."""
