"""The tests of Afterclick. `make test` runs all but `field`, `faults` and `fuzz`.

Where is the test of a file? `tests/unit/test_NAME.py` tests the module NAME, or the modules of a folder NAME. Its first
line says what it tests. `git grep -l 'streams.kafka.topics' tests` finds all tests of a module.

| folder | what it holds | how to run it |
|---|---|---|
| `unit/` | tests of one module; no network, downloaded weights or real servers | `pytest tests/unit` |
| `property/` | statements about every input; hypothesis looks for counterexamples | `pytest tests/property` |
| `contract/` | one suite for each protocol, run on every implementation | `pytest tests/contract` |
| `integration/` | one or a few workers on a real Kafka and a real Redis | `KAFKA_HOME=... pytest tests/integration` |
| `field/` | the same in production: rights, settings, clocks, outages, clusters; other slow tests | `make field` |
| `faults/` | a fleet under load while servers, workers and data break | `make faults MINUTES=4 FAULTS=24 SEED=1` |
| `fuzz/` | every decoder on inputs that coverage guides | `make fuzz RUNS=1000000` |

Beside them: `conftest.py` (fixtures with real servers), `client.py` (a shop's backend), `models.py` (tiny models with
random weights), `references.py` (each scorer in plain transformers), `published.py` (lists in their topic without a
worker), `broken_source.py` (a source that raises) and `fixtures/` (recorded bytes).
"""
