"""Logs of events, recorded or synthetic, as one stream of messages."""
