"""`afterclick replay`: recorded events into Kafka, at their own pace or as fast as it goes."""
