"""tmp"""
import sys, logging
from streams.settings import load
from streams.worker import run
logging.basicConfig(level="INFO", stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
for n in ("faust","mode","aiokafka"): logging.getLogger(n).setLevel("WARNING")
if __name__ == "__main__":
    sys.exit(run(load(), sys.argv[3]))
