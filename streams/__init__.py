"""Kafka, Faust, Redis, metrics, the clock and the command line: everything that moves data.

The way of an event, each step a file: `receive` -> `encoders.interest` -> `ranker.recall.candidates` -> `ranker.score`
-> `ranker.select` -> `publish`. `pipeline` is the one place where they stand in order.
"""
