"""Plain aiokafka: connections, topics, reading, writing and rejected messages. Knows no Faust app."""
