"""The engines, and the protocol they share (`base`)."""
