// The shop: search, categories and items.

import { $, hueOf, make, plural, price, swatch } from "./dom.js";
import { ask } from "./server.js";

const PAGE = 8;
const TYPING_MS = 120;

export class Shop {
  /** `act(type, item)` sends an event. `fail(error)` shows that the server refused. */
  constructor(act, fail) {
    this.act = act;
    this.fail = fail;
    this.category = "";
    this.limit = PAGE;
    this.catalogue = 0;
    this.asking = null;
    this.shown = "";
    $("search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.load();
    });
    $("query").addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => {
        this.limit = PAGE;
        this.load();
      }, TYPING_MS);
    });
    $("more-items").addEventListener("click", () => {
      const first = this.limit;
      this.limit += 2 * PAGE;
      this.load().then(() => $("items").children[first]?.querySelector("button")?.focus());
    });
  }

  async load() {
    this.asking?.abort();
    this.asking = new AbortController();
    const query = new URLSearchParams({ q: $("query").value, category: this.category, limit: this.limit });
    try {
      this.show(await ask("read", `items?${query}`, { signal: this.asking.signal }));
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error);
    }
  }

  show(found) {
    this.catalogue = found.catalogue;
    const state = JSON.stringify(found);
    if (state === this.shown) return; // keep the focus where it is
    this.shown = state;
    $("shop-count").textContent = found.total ? plural(found.total, "item") : this.nothing(found);
    this.showCategories(found.categories);
    $("items").replaceChildren(...found.items.map((item) => this.card(item)));
    $("more-items").hidden = found.items.length >= found.total;
  }

  nothing(found) {
    return found.catalogue ? "No item matches" : "No items yet";
  }

  showCategories(categories) {
    for (const { name } of categories) hueOf(name); // in the order of the alphabet, so that colours do not depend on clicks
    const names = ["", ...categories.map(({ name }) => name)];
    if (this.category && !names.includes(this.category)) names.push(this.category);
    const focused = document.activeElement?.dataset?.category;
    $("categories").replaceChildren(...names.map((name) => {
      const chosen = name === this.category;
      const choose = () => {
        this.category = name;
        this.limit = PAGE;
        this.load();
      };
      const button = make("button", { type: "button", "aria-pressed": String(chosen), "data-category": name, onclick: choose },
        name || "All");
      return make("li", {}, button);
    }));
    if (focused !== undefined) {
      const again = [...$("categories").querySelectorAll("button")].find((button) => button.dataset.category === focused);
      again?.focus();
    }
  }

  card(item) {
    const look = make("button", { type: "button", class: "look", onclick: () => this.act("click", item) }, item.title);
    const buy = make("button", { type: "button", class: "buy", onclick: () => this.act("purchase", item) }, "Buy");
    buy.setAttribute("aria-label", `Buy ${item.title}`);
    return make("li", { class: "card", "data-item": item.item_id },
      swatch(item.categories),
      make("div", { class: "what" }, look, make("p", { class: "fine" }, [item.categories.at(-1), item.brand].filter(Boolean).join(" · "))),
      make("div", { class: "act" }, make("span", { class: "price" }, price(item)), buy));
  }
}
