"""Embedded Kafka, Redis and a worker process, for the demo, benchmarks and users' own tests."""
