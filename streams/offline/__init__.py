"""The tiers without Kafka, fed from an event log: for evaluation, for training and for tests."""
