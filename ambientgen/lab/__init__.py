"""Listening tests that can be repeated: experiments, figures of each clip, and one page to see and hear them on."""
