"""The tiers without Kafka, fed from a log of events."""
