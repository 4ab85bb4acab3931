// Small helpers for the document. Texts become text nodes, never markup.

export const $ = (id) => document.getElementById(id);

/** Make an element: `make("li", {class: "row", onclick}, "text", child)`. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "hue") element.style.setProperty("--hue", value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function unseen(text) {
  return make("span", { class: "unseen" }, text);
}

let announced = "";

/** Let a screen reader say a sentence when it has nothing else to say. */
export function announce(sentence) {
  announced = sentence === announced ? `${sentence}\u00a0` : sentence; // the same sentence again is said again
  $("announcer").textContent = announced;
}

/** Show an error until the next success; an empty text hides it. */
export function problem(text) {
  const place = $("problem");
  if (place.textContent !== text) place.textContent = text;
  place.hidden = !text;
}

const hues = new Map();

/** A hue for a name: the same everywhere on the page, and far from those of the names before. */
export function hueOf(name) {
  if (!hues.has(name)) hues.set(name, Math.round(20 + hues.size * 137.5) % 360);
  return hues.get(name);
}

/** The coloured square of an item: the first letters of its category. */
export function swatch(categories) {
  const top = categories[0] ?? "";
  const leaf = categories.at(-1) ?? "?";
  return make("span", { class: "swatch", "aria-hidden": "true", hue: hueOf(top) }, [...leaf].slice(0, 2).join(""));
}

export function price(item) {
  if (item.price === null || item.price === undefined) return "";
  if (!item.currency) return item.price.toFixed(2);
  try {
    return new Intl.NumberFormat("en", { style: "currency", currency: item.currency }).format(item.price);
  } catch {
    return `${item.price.toFixed(2)} ${item.currency}`; // a code that is no currency
  }
}

export function ago(timeMs) {
  const seconds = Math.max(0, Math.round((Date.now() - timeMs) / 1000));
  if (seconds < 5) return "just now";
  for (const [unit, size, limit] of [["second", 1, 60], ["minute", 60, 3600], ["hour", 3600, 86400]]) {
    if (seconds < limit) return plural(Math.floor(seconds / size), unit) + " ago";
  }
  return plural(Math.floor(seconds / 86400), "day") + " ago";
}

export function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
