"""The synthetic shop's shelves: words, brands, and the items made of them.

Every word that can attract a shopper (audience, feature, colour or size, brand, category) stands in the item's text, so
that a model that reads a shopper's history can learn the taste behind it. Brands are invented. Knows no shopper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranker.evaluation.ids import index_by_id
from streams.contracts import Item

CURRENCY = "EUR"
UNAVAILABLE = 0.015  # share of the items; chosen by us
BRAND_LEVELS = (
    0.7,
    0.85,
    1.0,
    1.15,
    1.45,
    1.9,
)  # of a category's usual price, in the order of a department's brands
BRAND_PHRASES = (
    "Lowest price",
    "Good value",
    "Everyday quality",
    "A popular choice",
    "Premium",
    "Top of the range",
)

ITEM_ZIPF = 0.6  # exponent of popularity by rank; chosen by us: taste counts for more
LEAF_ITEMS = 10  # at least: a visit needs something to choose from
PRICE_SPREAD = 0.15  # standard deviation of the logarithm; chosen by us

# department: its brands from cheap to dear
# category | for whom | features | kinds | colours, sizes, ... | usual price in EUR | what for
SHELVES = """
Outdoor: Wandera, Bergtal, Nordpfad, Tarnhill, Skarvik, Alta Corvo
Hiking boots|women's,men's|waterproof,leather,lightweight,insulated,recycled|hiking boots,walking shoes,trail shoes|black,brown,olive,navy,sand|120|wet paths and rocky ground
Rain jackets|women's,men's,kids'|waterproof,lightweight,packable,recycled,insulated|rain jacket,hooded jacket,shell jacket,parka|black,navy,olive,red,yellow|110|showers and windy ridges
Tents||lightweight,waterproof,four-season,quick-pitch,recycled|two-person tent,three-person tent,family tent,tunnel tent|olive,sand,grey,orange|240|nights far from any road
Backpacks||waterproof,lightweight,roll-top,recycled,padded|20-litre backpack,daypack,hiking rucksack,travel backpack|black,navy,olive,mustard,grey|80|day hikes and long weekends
Sleeping bags|women's,men's,kids'|lightweight,insulated,down,recycled,compact|sleeping bag,mummy sleeping bag,hooded sleeping bag|navy,olive,red,grey|110|cold nights under canvas
Running & fitness: Pacewell, Rundum, Stride & Co, Velora, Kestrel Run, Athenor
Running shoes|women's,men's|lightweight,cushioned,waterproof,reflective,recycled|road running shoes,trail running shoes,training shoes|black,white,navy,coral,mint|110|easy miles and fast laps
Running tops|women's,men's|quick-dry,reflective,merino,recycled,seamless|running top,long-sleeved running top,running vest,half-zip running top|black,white,navy,coral,mint|40|training in any weather
Tights & shorts|women's,men's|quick-dry,seamless,recycled,reflective,compression|running tights,running shorts,training shorts,three-quarter tights|black,navy,grey,olive|45|running and the gym
Exercise mats||natural rubber,cork,non-slip,foldable,extra-thick|yoga mat,pilates mat,exercise mat,stretching mat|black,sage,lilac,blue,terracotta|45|yoga, pilates and stretching
Weights||cast-iron,neoprene,rubber-coated,vinyl|kettlebell,dumbbell pair,hand weight pair|2 kg,4 kg,6 kg,8 kg,10 kg|35|strength training at home
Cycling: Pedalo, Radwerk, Spoke & Chain, Velomar, Gravelli, Monte Ruota
Cycle helmets|women's,men's,kids'|lightweight,reflective,ventilated,minimalist,recycled|city bike helmet,road bike helmet,mountain bike helmet|black,white,mint,red,navy|75|the commute and the Sunday ride
Bike lights||rechargeable,waterproof,compact,magnetic,extra-bright|front bike light,rear bike light,bike light set,clip-on bike light|black,silver,red|30|dark mornings
Bike bags||waterproof,roll-top,recycled,waxed cotton,reflective|pannier bag,handlebar bag,saddle bag,frame bag|black,olive,mustard,navy,grey|60|shopping, laptops and touring
Cycling tops|women's,men's|quick-dry,merino,reflective,striped,recycled|cycling jersey,long-sleeved cycling jersey,cycling vest,cycling gilet|black,navy,red,mint,white|70|long days in the saddle
Cycling gloves|women's,men's|padded,waterproof,reflective,merino,leather|cycling gloves,fingerless cycling gloves,winter cycling gloves|black,grey,navy,red|35|warm hands and a firm grip
Women's fashion: Clarabelle, Lumi & Fern, Maren Holt, Odessa Row, Atelier Soline, Vivienne Aubry
Dresses|women's|linen,organic cotton,floral,striped,velvet,polka-dot|wrap dress,midi dress,shirt dress,maxi dress|black,navy,sage,red,blush|80|the office, the garden and the party
Knitwear|women's|merino,lambswool,cashmere,organic cotton,recycled|cardigan,roll-neck jumper,crew-neck jumper,knitted vest|cream,grey,navy,mustard,blush|75|cool mornings
Blouses & tops|women's|linen,silk,organic cotton,floral,striped|blouse,wrap top,tunic,shirt|white,black,sage,blush,blue|50|work and weekends
Handbags|women's|leather,suede,recycled,quilted,woven|tote bag,crossbody bag,shoulder bag,bucket bag|black,tan,cream,olive,red|110|all that a day needs
Scarves|women's|silk,merino,linen,floral,checked|scarf,long scarf,neckerchief,shawl|red,navy,mustard,grey,sage|40|a touch of colour
Men's fashion: Common Thread, Harbour & Sons, Lorne, Fenwick Dale, Bramwell, Conti Sartor
Shirts|men's|linen,organic cotton,flannel,striped,checked|shirt,short-sleeved shirt,button-down shirt,overshirt|white,navy,blue,olive,red|60|work and weekends
Trousers|men's|organic cotton,linen,corduroy,recycled,wool|straight-leg trousers,slim-fit trousers,tapered trousers,pleated trousers|navy,sand,olive,grey,black|75|every day of the week
Jumpers|men's|merino,lambswool,cashmere,striped,recycled|crew-neck jumper,half-zip jumper,roll-neck jumper,cardigan|navy,grey,olive,cream,mustard|80|cool mornings
Wallets|men's|leather,vegan leather,canvas,minimalist,waxed cotton|bifold wallet,card holder,zip wallet,coin wallet|black,brown,tan,navy,olive|45|cards, notes and coins
Socks|men's|merino,organic cotton,bamboo,striped,recycled|ankle socks,crew socks,knee socks,slipper socks|black,navy,grey,mustard,red|14|warm and dry feet
Kitchen: Kochfix, Copperpot, Mesa & Salt, Hearthstone, Larder Lane, Maison Brossard
Pans||cast-iron,stainless steel,non-stick,copper,ceramic|frying pan,sauté pan,saucepan,casserole|16 cm,20 cm,24 cm,28 cm|60|searing, simmering and stews
Kitchen knives||forged,stainless steel,damascus steel,ceramic|chef's knife,bread knife,paring knife,santoku knife|black handle,walnut handle,olive-wood handle,white handle|55|clean cuts
Coffee & tea||stainless steel,glass,ceramic,enamel,copper|cafetière,coffee dripper,coffee pot,teapot|2 cups,4 cups,6 cups,8 cups|40|slow mornings
Mugs||stoneware,handmade,ceramic,striped,polka-dot,vintage-style|mug,espresso cup,tea mug,latte mug|white,blue,sage,terracotta,black|14|coffee, tea and cocoa
Baking||non-stick,stainless steel,enamel,ceramic,carbon steel|cake mould,loaf mould,muffin mould,tart mould|small,medium,large|20|bread, cakes and tarts
Home: Heimelig, Casa Verano, Willow & Wick, Nordlys, Loom & Lantern, Palazzo Nove
Cushions||velvet,linen,floral,striped,organic cotton,wool|cushion cover,scatter cushion,floor cushion,bolster cushion|sage,mustard,blush,navy,terracotta|30|the sofa and the bed
Throws||merino,lambswool,organic cotton,checked,recycled|throw,blanket,bedspread,sofa throw|cream,grey,sage,mustard,navy|70|cosy evenings
Lamps||ceramic,brass,oak,glass,minimalist,vintage-style|table lamp,floor lamp,bedside lamp,desk lamp|white shade,black shade,linen shade,green shade|90|a warm light
Rugs||wool,jute,striped,checked,recycled|rug,round rug,hallway runner,bedside rug|cream,grey,terracotta,navy,sage|140|bare floors
Baskets||rattan,seagrass,jute,felt,handmade|storage basket,laundry basket,lidded basket,magazine basket|natural,white,grey,black|35|a tidy home
Garden: Growell, Beetwerk, Thistle & Thyme, Greenacre, Orchard House, Verdigris
Plant pots||terracotta,ceramic,recycled,handmade,stoneware|plant pot,hanging planter,window box,herb planter|white,sage,charcoal,blue,ochre|25|balcony and windowsill
Garden tools||stainless steel,forged,ash-handled,lightweight|hand trowel,hand fork,hoe,rake|green,black,red,blue|25|beds and borders
Garden furniture||teak,acacia,foldable,rattan,recycled|garden chair,garden bench,bistro table,sun lounger|natural,white,charcoal,sage|160|long summer evenings
Garden birds||handmade,cedar,recycled,vintage-style,weatherproof|bird feeder,nesting box,bird table,bird bath|natural,green,white,blue|35|robins, tits and finches
Seeds||organic,heirloom,open-pollinated,quick-growing|tomato seeds,carrot seeds,sunflower seeds,basil seeds,sweet pea seeds|packet of 50,packet of 100,packet of 200|5|the next season
Electronics: Voltino, Brightbit, Tonfeld, Auralis, Kinetiq, Helvar Audio
Headphones||wireless,noise-cancelling,foldable,lightweight,padded|over-ear headphones,on-ear headphones,sports headphones,studio headphones|black,white,navy,sand|110|music, calls and trains
Speakers||waterproof,compact,vintage-style,rechargeable,minimalist|bluetooth speaker,portable speaker,smart speaker,travel speaker|black,white,sage,red|90|kitchen, garden and beach
Cases & sleeves||leather,recycled,floral,minimalist,padded|phone case,flip phone case,tablet sleeve,laptop sleeve|black,tan,navy,blush,sage|30|safe travels
Chargers||compact,wireless,magnetic,recycled|power bank,desk charger,bedside charger,travel charger|black,white,grey,mint|35|flat batteries
Keyboards||wireless,compact,mechanical,backlit,quiet|keyboard,office keyboard,gaming keyboard,tablet keyboard|black,white,grey,mint|70|long texts and late games
Toys & games: Toffel, Pip & Poppy, Klotzmeister, Owl & Acorn, Little Larch, Maison Joujou
Wooden toys||handmade,painted,personalised,vintage-style,minimalist|wooden train set,wooden stacking tower,wooden shape sorter,wooden pull-along dog|natural,pastel,rainbow,red,blue|30|small hands
Soft toys||organic cotton,handmade,knitted,personalised,recycled|teddy bear,cuddly rabbit,cuddly elephant,cuddly fox|cream,grey,brown,blush,mint|25|bedtime
Jigsaw puzzles||vintage-style,illustrated,wooden,panoramic|world map jigsaw,animal jigsaw,city jigsaw,botanical jigsaw,seaside jigsaw|100 pieces,500 pieces,1000 pieces|20|rainy Sundays
Board games||cooperative,family,strategy,travel,illustrated|board game,card game,dice game,tile game|2 players,2 to 4 players,3 to 6 players|28|game nights
Craft kits||beginner's,deluxe,mini,eco-friendly|embroidery kit,knitting kit,candle-making kit,pottery kit,macramé kit|pastel,rainbow,earth tones,neutral|26|something of one's own
Beauty: Pureo, Savonne, Rosalba, Kräuterhaus, Lune & Lotus, Maison Opaline
Face care||organic,fragrance-free,vegan,hydrating,vitamin C|face cream,face serum,cleansing balm,night cream|30 ml,50 ml,100 ml|28|calm and clear skin
Hair care||organic,fragrance-free,vegan,hydrating,volumising|shampoo,conditioner,hair mask,leave-in conditioner|100 ml,250 ml,500 ml|16|every wash day
Bath & soap||organic,handmade,vegan,olive oil|soap bar,hand soap,body wash,bath oil|lavender,rosemary,orange blossom,cedarwood|12|hands, bath and shower
Candles||soy wax,beeswax,handmade,vegan|scented candle,pillar candle,travel candle,three-wick candle|lavender,fig,cedarwood,sea salt,vanilla|24|a quiet evening
Lip make-up||vegan,organic,matte,hydrating,long-lasting|lipstick,lip crayon,lip tint,liquid lipstick|rose,coral,berry,nude,red|19|a finishing touch
Pets: Snuffel, Pawsome Pantry, Waldhund, Hazel & Hound, Whiskerly, Château Chat
Dog beds||washable,recycled,velvet,waterproof,orthopaedic|dog bed,dog cushion,dog sofa,dog mat|grey,navy,sage,brown|70|sound sleep
Dog walking||leather,reflective,padded,recycled,waterproof|dog lead,dog collar,dog harness,training lead|red,black,tan,navy,olive|28|walks in town and wood
Dog treats||organic,grain-free,low-fat,air-dried|dog treats,training treats,chew sticks,dog biscuits|chicken,salmon,lamb,duck|9|good dogs
Cat beds||felt,rattan,recycled,handmade,washable|cat bed,cat cave,cat basket,cat hammock|grey,natural,cream,sage|55|sixteen hours of sleep a day
Pet bowls||ceramic,stainless steel,bamboo,handmade,non-slip|cat bowl,dog bowl,slow-feeder bowl,water bowl|white,grey,blue,sage,terracotta|18|breakfast and supper
"""  # noqa: E501


@dataclass(frozen=True)
class Leaf:
    """A category of the last level, and the words from which its items are made."""

    department: str
    name: str
    parts: tuple[tuple[str, ...], ...]
    """Audiences, features, kinds, variants (colours, sizes) and brands; an item has one of each."""
    price: float
    purpose: str

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(part) for part in self.parts)


@dataclass(frozen=True)
class Shelves:
    """The items of the shop by leaf, and their traits as integer codes.

    Attributes
    ----------
    items : list of Item
    leaves : list of Leaf
    starts : (leaves,) int64
        The index of each leaf's first item.
    leaf : (items,) int64
        The index of each item's leaf.
    traits : (items, 4) int64
        Indices in `words` of: audience ("" for everybody), feature, variant, brand.
    level : (items,) float64
        Logarithm of the price over the leaf's usual price.
    popularity : (items,) float64
        A factor of every shopper's taste: Zipf within the leaf; 0 for an item that is not available.
    words : list of str
    """

    items: list[Item]
    leaves: list[Leaf]
    starts: NDArray[np.int64]
    leaf: NDArray[np.int64]
    traits: NDArray[np.int64]
    level: NDArray[np.float64]
    popularity: NDArray[np.float64]
    words: list[str]


def build(rng: np.random.Generator, count: int) -> Shelves:
    """Make `count` different items, distributed evenly over the leaves.

    Raises
    ------
    ValueError
        There are fewer different items than that, or too few for each leaf.
    """
    leaves = list(_leaves())
    limit = len(leaves) * min(int(np.prod(leaf.sizes)) for leaf in leaves)
    fewest = LEAF_ITEMS * len(leaves)
    if not fewest <= count <= limit:
        raise ValueError(f"items: got {count}, expected {fewest} to {limit}")
    words = sorted({word for leaf in leaves for part in leaf.parts for word in part})
    code = index_by_id(words)
    numbers = iter(rng.permutation(count) + 1)
    shares = [len(share) for share in np.array_split(np.arange(count), len(leaves))]
    items, traits, levels = [], [], []
    for leaf, share in zip(leaves, shares, strict=True):
        for combination in zip(*_different(rng, leaf.sizes, share), strict=True):
            audience, feature, kind, variant, brand = (
                part[index] for part, index in zip(leaf.parts, combination, strict=True)
            )
            tier = int(combination[-1])
            price = _price(leaf.price * BRAND_LEVELS[tier] * rng.lognormal(0, PRICE_SPREAD))
            title = " ".join(word for word in (audience, feature, kind) if word)
            items.append(
                Item(
                    item_id=f"item-{next(numbers):05d}",
                    title=f"{title[0].upper()}{title[1:]}, {variant}",
                    description=f"{kind[0].upper()}{kind[1:]} for {leaf.purpose}. {BRAND_PHRASES[tier]}.",
                    categories=[leaf.department, leaf.name],
                    brand=brand,
                    price=price,
                    currency=CURRENCY,
                    available=bool(rng.random() >= UNAVAILABLE),
                )
            )
            traits.append([code[audience], code[feature], code[variant], code[brand]])
            levels.append(np.log(price / leaf.price))
    return Shelves(
        items=items,
        leaves=leaves,
        starts=np.cumsum([0, *shares[:-1]], dtype=np.int64),
        leaf=np.repeat(np.arange(len(leaves)), shares),
        traits=np.array(traits, dtype=np.int64),
        level=np.array(levels),
        popularity=np.concatenate([_zipf(rng, share, ITEM_ZIPF) for share in shares])
        * np.array([item.available for item in items]),
        words=words,
    )


def _different(rng: np.random.Generator, sizes: tuple[int, ...], share: int) -> tuple[NDArray[np.intp], ...]:
    """Choose `share` different combinations. A title recurs, with another brand, only when all titles are used."""
    *title_sizes, brands = sizes
    titles = int(np.prod(title_sizes))
    order, first_brand = rng.permutation(titles), rng.integers(brands, size=titles)
    number = np.arange(share)
    title = order[number % titles]
    return (*np.unravel_index(title, title_sizes), (first_brand[title] + number // titles) % brands)


def _zipf(rng: np.random.Generator, size: int, exponent: float) -> NDArray[np.float64]:
    """Weights that fall with the rank, in random order."""
    weights: NDArray[np.float64] = np.arange(1.0, size + 1) ** -exponent
    return rng.permutation(weights)


def _leaves() -> Iterator[Leaf]:
    department, brands = "", ""
    for line in SHELVES.strip().splitlines():
        if "|" not in line:
            department, brands = line.split(": ")
            continue
        name, *parts, price, purpose = line.split("|")
        words = tuple(tuple(part.split(",")) for part in parts)
        yield Leaf(department, name, (*words, tuple(brands.split(", "))), float(price), purpose)


def _price(amount: float) -> float:
    """Round as shops do: 11.49, 34.99, 129.00."""
    if amount >= 100:
        return float(round(amount / 10) * 10 - 1)
    return round(amount * 2) / 2 - 0.01 if amount < 20 else round(amount) - 0.01
