"""The fault harness: a fleet of workers under load while servers, workers and data break; run by `make faults`.

In the order of a campaign:

- `conftest.py`: the options of the command line.
- `cluster.py`: Kafka, Redis and the relay to Redis, each of which can be killed and started again.
- `workers.py`, `worker_script.py`: the workers and their supervisor; a worker whose clock and model can be broken.
- `load.py`: the producer, and the truth about what it sent.
- `watcher.py`: the consumer, which sees every list.
- `faults.py`, `data_faults.py`: the faults, each of which breaks something and mends it.
- `campaign.py`: starts all of this, injects the faults and measures the recovery; `waiting.py`: bounded waits.
- `checks.py`: compares what was sent with states, lists and dead letters; `report.py`: the table and the JSON.
- `test_campaign.py`, `test_overload.py`, `test_restore.py`: the tests.
"""
