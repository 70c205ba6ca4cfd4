"""The commands below `/ambient`, one file a group."""
