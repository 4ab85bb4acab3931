"""The words of which titles are made: topics, each with what titles of it are about. Knows no item."""

from __future__ import annotations

from streams.datasets.worlds.steps import Rng

TOPICS: dict[str, tuple[str, ...]] = {
    "football": ("striker", "penalty shoot-out", "league table", "goalkeeper", "transfer window", "derby", "referee"),
    "space": ("rocket launch", "lunar lander", "space telescope", "Mars rover", "astronaut", "orbit", "asteroid"),
    "cooking": ("sourdough bread", "slow cooker", "pasta sauce", "street food", "recipe", "baking", "spice market"),
    "finance": ("interest rates", "stock market", "inflation", "central bank", "mortgage", "pension fund", "bonds"),
    "gardening": ("tomato plants", "compost", "rose garden", "greenhouse", "pruning", "seedlings", "wildflowers"),
    "cycling": ("mountain stage", "gravel bike", "time trial", "bike lane", "sprinter", "peloton", "pedals"),
    "medicine": ("vaccine trial", "hospital ward", "heart surgery", "antibiotics", "diabetes", "nurses", "clinic"),
    "crime": ("murder trial", "detective", "bank robbery", "forensic evidence", "missing person", "jury", "burglary"),
    "fashion": ("catwalk", "summer dress", "designer handbag", "vintage denim", "tailoring", "sneakers", "jewellery"),
    "weather": ("snow storm", "heat wave", "flood warning", "hurricane season", "drought", "thunderstorm", "fog"),
    "computers": ("graphics card", "open source", "operating system", "laptop", "encryption", "software bug", "robot"),
    "history": ("Roman villa", "medieval castle", "ancient Egypt", "shipwreck", "archive", "Viking burial", "empire"),
    "animals": ("wolf pack", "coral reef", "rescue dog", "elephant herd", "bird migration", "kittens", "beehive"),
    "travel": ("night train", "desert island", "backpacking", "budget airline", "campsite", "city break", "ferry"),
    "chess": ("grandmaster", "opening theory", "endgame", "world title match", "blunder", "gambit", "checkmate"),
    "politics": ("election", "coalition talks", "parliament", "prime minister", "referendum", "tax reform", "senate"),
}
NAMES = tuple(TOPICS)
PLACES = (
    *("Rome", "Bonn", "Cork", "Lyon", "Graz", "Bern", "Riga", "Split", "Nantes", "Leeds", "Sofia", "Bilbao", "Faro"),
    *("Aarhus", "Ghent", "Tartu", "Osaka", "Lima", "Quito", "Accra", "Perth", "Boston", "Austin", "Hanoi", "Izmir"),
)


def title_of(rng: Rng, topic: int, form: str) -> str:
    """Write a title of a topic. The form has places for two subjects and a place: `"{0} and {1} in {2}"`."""
    one, other = rng.choice(TOPICS[NAMES[topic]], 2, replace=False)
    text = form.format(one, other, rng.choice(PLACES))
    return text[:1].upper() + text[1:]
