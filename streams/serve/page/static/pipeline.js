// What the list knows of a shopper, and the state of the pipeline.

import { $, ago, hueOf, make, plural } from "./dom.js";

export function showKnown(view) {
  const { interests, history, cold } = view;
  $("known-title").textContent = `What the list knows of ${view.user}`;
  const nothing = cold ? "Nothing yet. The first click makes a list." : "Nothing yet";
  fill($("interests"), interests, (interest) => make("li", { hue: hueOf(interest.category ?? interest.name) },
    make("strong", {}, interest.name),
    make("span", { class: "fine" }, interest.kind === "session" ? "this session" : interest.kind === "long" ? "long term" : "a taste"),
    make("span", { class: "fine examples" }, `near to ${interest.examples.join(", ")}`)), nothing);
  fill($("history"), history, (event) => make("li", {},
    make("span", { class: `type ${event.type}` }, event.type === "purchase" ? "bought" : "viewed"),
    make("span", { class: "name" }, event.title ?? "an item that is not in the catalogue"),
    make("time", { class: "fine", datetime: new Date(event.time_ms).toISOString(), "data-time": event.time_ms }, ago(event.time_ms))), nothing);
}

function fill(list, entries, draw, nothing) {
  list.replaceChildren(...(entries.length ? entries.map(draw) : [make("li", { class: "fine nothing" }, nothing)]));
}

export function renewTimes() {
  for (const time of document.querySelectorAll("time[data-time]")) {
    const text = ago(Number(time.dataset.time));
    if (time.textContent !== text) time.textContent = text;
  }
}

function ms(value) {
  if (value === null) return "–";
  return value < 1000 ? `${value < 10 ? value.toFixed(1) : Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}


const perS = (value) => (value === null ? "–" : `${value < 10 ? value.toFixed(1) : Math.round(value)}/s`);

/** Show the state of the pipeline. `data-level` is "good", "busy" or "bad"; the text says the same. */
export function showPipeline(state) {
  $("pipeline-about").textContent = state.about;
  if (!state.reachable) {
    tiles([["Worker", "not reachable", state.problem, "bad"]]);
    return;
  }
  const share = state.degraded_share;
  const reasons = Object.entries(state.degraded).map(([reason, lists]) => `${reason}: ${lists.toLocaleString("en")}`);
  tiles([
    ["Worker", state.ready ? "ready" : "starting", plural(state.catalogue_items, "item"), state.ready ? "good" : "busy"],
    ["Lag", state.lag.toLocaleString("en"), "messages that wait in Kafka", state.lag > 100 ? "busy" : "good"],
    ["Events", perS(state.events_per_s), `${state.events.toLocaleString("en")} accepted, ${plural(state.dead_letters, "dead letter")}`, state.dead_letters ? "busy" : "good"],
    ["Lists", perS(state.lists_per_s), `${state.lists.toLocaleString("en")} in all`, "good"],
    ["Event to list", ms(state.event_to_list_ms), "mean of the latest lists, measured by the worker", "good"],
    ["Batch", state.batch_lists === null ? "–" : state.batch_lists.toFixed(1), `lists in a batch; the model takes ${ms(state.inference_ms)}`, "good"],
    ["Model", state.models.join(", ") || "none", "ranks the candidates", state.models.length ? "good" : "bad"],
    ["Degraded", share === null ? "–" : `${(100 * share).toFixed(share ? 1 : 0)} %`, reasons.join(", ") || "every list by the model", share ? "busy" : "good"],
  ]);
}

/** A model's name may break before its version. */
function breakable(name) {
  const [first, ...rest] = name.split("@");
  return [first, ...rest.flatMap((part) => [make("wbr"), `@${part}`])];
}

function tiles(entries) {
  const text = JSON.stringify(entries);
  if ($("pipeline").dataset.shown === text) return;
  $("pipeline").dataset.shown = text;
  $("pipeline").replaceChildren(...entries.map(([name, value, note, level]) => make("div", { class: "tile", "data-level": level },
    make("dt", {}, name),
    make("dd", { class: value.length > 10 ? "value long" : "value" }, ...breakable(value)),
    make("dd", { class: "fine" }, note))));
}
