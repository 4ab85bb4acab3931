"""Kafka, Redis and a worker process for users' own tests; the demo and the benchmarks use them too."""
