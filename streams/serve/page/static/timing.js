// How long it takes from a click in this tab until the new list is on the screen.

import { $, make } from "./dom.js";

const KEPT = 24;
export const GOAL_MS = 300;

export class Timing {
  constructor() {
    this.waiting = new Map(); // event id -> what was clicked
    this.times = [];
  }

  /** Note an event that is about to be sent. `since` is the browser's time of the click. */
  clicked(event, what, since) {
    this.waiting.set(event.event_id, { user: event.user_id, what, since, at: event.timestamp, ackMs: null });
    $("took").dataset.state = "waiting";
    $("took-what").textContent = "Waiting for the new list";
    $("took-event").textContent = what;
    $("took-parts").textContent = "";
  }

  /** Kafka has the event. */
  acknowledged(eventId) {
    const click = this.waiting.get(eventId);
    if (click) click.ackMs = performance.now() - click.since;
  }

  failed(eventId) {
    this.waiting.delete(eventId);
    $("took").dataset.state = "idle";
    $("took-what").textContent = "The event was not sent";
    $("took-parts").textContent = "";
  }

  forgotten(user) {
    for (const [id, click] of this.waiting) if (click.user === user) this.waiting.delete(id);
    $("took").dataset.state = "idle";
  }

  /** Find the clicks that a list answers. A list may answer several, and then it names the newest. */
  answered(user, list) {
    if (!list) return null;
    let newest = null;
    for (const [id, click] of this.waiting) {
      const isTrigger = list.trigger?.event_id === id;
      if (click.user !== user || (click.at > list.as_of && !isTrigger)) continue;
      this.waiting.delete(id);
      if (!newest || isTrigger) newest = click;
    }
    return newest;
  }

  /** Call after the list was drawn: measures once the browser has painted it. Resolves to milliseconds. */
  painted(click, list) {
    return new Promise((resolve) => {
      requestAnimationFrame(() => setTimeout(() => {
        const tookMs = performance.now() - click.since;
        this.show(click, list, tookMs);
        resolve(tookMs);
      }));
    });
  }

  show(click, list, tookMs) {
    const writtenMs = list.published_at === null ? -1 : list.published_at - click.at; // by the clocks of both machines
    this.times = [...this.times, tookMs].slice(-KEPT);
    $("took").dataset.state = tookMs <= GOAL_MS ? "fast" : "slow";
    $("took-ms").textContent = Math.round(tookMs).toLocaleString("en");
    $("took-what").textContent = "from the click to the new list on the screen";
    $("took-event").textContent = click.what;
    const parts = [];
    if (click.ackMs !== null) parts.push(`event in Kafka after ${Math.round(click.ackMs)} ms`);
    if (writtenMs >= 0) parts.push(`list in Kafka ${writtenMs} ms after the event’s timestamp`);
    $("took-parts").textContent = parts.join(" · ");
    this.draw();
  }

  draw() {
    const highest = Math.max(GOAL_MS, ...this.times);
    const bars = this.times.map((ms) => {
      const bar = make("span", { class: ms <= GOAL_MS ? "bar" : "bar slow" });
      bar.style.height = `${Math.max(6, (100 * ms) / highest)}%`;
      return bar;
    });
    const median = [...this.times].sort((a, b) => a - b)[Math.floor((this.times.length - 1) / 2)];
    $("took-history").setAttribute("aria-label", `The latest ${this.times.length} times, median ${Math.round(median)} ms`);
    $("took-history").title = $("took-history").getAttribute("aria-label");
    $("took-history").replaceChildren(...bars);
  }
}
