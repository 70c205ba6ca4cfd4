"""The Discord service around `ambientgen`: queue, store, commands and delivery."""
