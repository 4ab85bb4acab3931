// The list: what moved, why each item is there, and the animation from the list before.

import { $, ago, make, plural, price, swatch, unseen } from "./dom.js";

const SHORT = 12;
const MOVE_MS = 450;
const FOUND_BY = {
  "co-visited": "others viewed or bought it together with items of this history",
  nearest: "its text is near to these interests",
  trending: "many look at it now",
  newest: "it is new in the shop",
  knowledge: "the knowledge graph links it with items of this history",
  "learnt-knowledge": "the knowledge graph links it as users follow links",
};

export class List {
  /** `act(type, item, list)` sends an event that names this list. */
  constructor(act) {
    this.act = act;
    this.whole = false;
    this.view = null;
    this.ranks = new Map(); // of the list before: item id -> rank
    this.open = new Set(); // items whose reason is unfolded
    $("more-list").addEventListener("click", () => {
      this.whole = !this.whole;
      this.draw(new Map());
    });
  }

  /** Show a shopper's view. Moves are marked if it replaces another list of the same shopper. Returns what changed. */
  show(view) {
    const before = this.view;
    const sameShopper = before !== null && before.user === view.user;
    const sameList = sameShopper && before.list?.list_id === view.list?.list_id;
    this.view = view;
    if (!sameShopper) this.open.clear();
    if (!sameList) this.ranks = sameShopper && before.list ? ranksOf(before.list) : new Map();
    const changed = sameList ? null : changesOf(this.ranks, view.list);
    this.draw(sameShopper ? placesOf($("recommendations")) : new Map());
    return changed;
  }

  draw(places) {
    const { user, list, cold } = this.view;
    $("list-title").textContent = cold || !list ? "The list for newcomers" : `The list of ${user}`;
    $("list-about").textContent = about(this.view);
    const degraded = list?.degraded && !cold ? `Made without the model: ${list.degraded}` : "";
    $("degraded").textContent = degraded;
    $("degraded").hidden = !degraded;
    const items = list?.items ?? [];
    const focused = focusIn($("recommendations"));
    $("recommendations").replaceChildren(...items.slice(0, this.whole ? items.length : SHORT).map((item) => this.row(item)));
    restoreFocus($("recommendations"), focused);
    $("more-list").hidden = items.length <= SHORT;
    $("more-list").textContent = this.whole ? `Show the first ${SHORT}` : `Show all ${items.length}`;
    $("more-list").setAttribute("aria-expanded", String(this.whole));
    animate($("recommendations"), places);
  }

  row(item) {
    const look = make("button", { type: "button", class: "look", onclick: () => this.act("click", item, this.view.list) }, item.title);
    const buy = make("button", { type: "button", class: "buy", onclick: () => this.act("purchase", item, this.view.list) }, "Buy");
    buy.setAttribute("aria-label", `Buy ${item.title}`);
    return make("li", { class: "row", "data-item": item.item_id },
      make("div", { class: "rank" }, String(item.rank), this.move(item)),
      swatch(item.categories),
      make("div", { class: "what" }, look, this.why(item)),
      make("div", { class: "act" }, make("span", { class: "price" }, price(item)), buy));
  }

  move(item) {
    const before = this.ranks.get(item.item_id);
    if (this.ranks.size === 0 || before === item.rank) return null;
    if (before === undefined) return make("span", { class: "move new" }, "new");
    const up = before - item.rank;
    const [sign, word] = up > 0 ? ["▲", "up"] : ["▼", "down"];
    return make("span", { class: `move ${word}` }, unseen(`moved ${word} by `), make("span", { "aria-hidden": "true" }, sign), String(Math.abs(up)));
  }

  why(item) {
    const details = make("details", { class: "why", open: this.open.has(item.item_id) },
      make("summary", {}, item.reason),
      make("ul", {},
        item.categories.length ? make("li", {}, item.categories.join(" › ")) : null,
        ...item.evidence.map((event) => make("li", {}, `Evidence: ${event.title ?? event.item_id}`
          + (event.type ? `, ${event.type === "purchase" ? "bought" : "viewed"} ${ago(event.time_ms)}` : ""))),
        ...item.sources.map((source) => make("li", {}, `Found because ${FOUND_BY[source] ?? `the source “${source}” proposed it`}`)),
        item.score === null ? null : make("li", {}, `Score ${item.score.toFixed(3)}; scores compare within one list`)));
    details.addEventListener("toggle", () => {
      if (details.open) this.open.add(item.item_id);
      else this.open.delete(item.item_id);
    });
    return details;
  }
}

function about({ list, cold, user }) {
  if (!list) return "No list yet";
  const by = list.degraded ? "" : `, ranked by ${list.model}`;
  if (cold) return `${user} has no list yet: what many look at, and what is new`;
  return `from ${plural(list.state_version, "event")}${by}`;
}

function ranksOf(list) {
  return new Map(list.items.map((item) => [item.item_id, item.rank]));
}

/** Count what is new, moved up and moved down; null if there was no list before. */
function changesOf(before, list) {
  if (before.size === 0 || !list) return null;
  const changes = { added: 0, up: 0, down: 0, first: list.items[0]?.title ?? "" };
  for (const item of list.items) {
    const rank = before.get(item.item_id);
    if (rank === undefined) changes.added += 1;
    else if (rank > item.rank) changes.up += 1;
    else if (rank < item.rank) changes.down += 1;
  }
  return changes;
}

function placesOf(rows) {
  return new Map([...rows.children].map((row) => [row.dataset.item, row.getBoundingClientRect().top]));
}

/** Slide each row from where its item was. Nothing moves for people who ask for less motion. */
function animate(rows, places) {
  if (places.size === 0 || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const moves = [...rows.children].map((row) => [row, places.get(row.dataset.item), row.getBoundingClientRect().top]);
  for (const [row, from, to] of moves) {
    if (from === undefined) {
      row.animate([{ opacity: 0, transform: "translateX(1.5rem)" }, { opacity: 1, transform: "none" }], { duration: MOVE_MS, easing: "ease-out" });
    } else if (Math.abs(from - to) > 1) {
      row.animate([{ transform: `translateY(${from - to}px)` }, { transform: "none" }], { duration: MOVE_MS, easing: "cubic-bezier(.2,.8,.2,1)" });
    }
  }
}

/** Which control of which item has the focus, so that a keyboard user keeps it while rows are replaced. */
function focusIn(rows) {
  const control = document.activeElement;
  const row = rows.contains(control) ? control.closest("[data-item]") : null;
  if (!row) return null;
  const index = [...rows.children].indexOf(row);
  return { item: row.dataset.item, selector: control.matches("summary") ? "summary" : `.${control.className}`, index };
}

function restoreFocus(rows, focused) {
  if (!focused) return;
  const row = [...rows.children].find((child) => child.dataset.item === focused.item) ?? rows.children[focused.index];
  row?.querySelector(focused.selector)?.focus({ preventScroll: true });
}
