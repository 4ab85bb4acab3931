// The page: shoppers, and the wiring of the shop, the list, the times and the pipeline.

import { $, announce, make, plural, problem, unseen } from "./dom.js";
import { List } from "./list.js";
import { renewTimes, showKnown, showPipeline } from "./pipeline.js";
import { ask, follow, keepToken, token } from "./server.js";
import { Shop } from "./shop.js";
import { Timing } from "./timing.js";

const API = "../v1";
const MAX_SHOPPERS = 8; // of one stream
const FIRST_SHOPPERS = ["ada", "ben", "cleo"];

const views = new Map(); // user -> the newest view
const changed = new Set(); // users whose list has changed since they were shown
const timing = new Timing();
const list = new List(act);
const shop = new Shop(act, failed);
let users = JSON.parse(sessionStorage.getItem("shoppers") ?? "null") ?? FIRST_SHOPPERS;
let current = new URLSearchParams(location.search).get("user") || users[0];
let session = { read_token: false, write_token: false };
let endStream = () => {};
let connected = "";

// ---------------------------------------------------------------- shoppers

function choose(user) {
  if (!users.includes(user)) {
    users = [...users, user].slice(-MAX_SHOPPERS);
    openStream();
  }
  current = user;
  changed.delete(user);
  sessionStorage.setItem("shoppers", JSON.stringify(users));
  history.replaceState(null, "", `?user=${encodeURIComponent(user)}`);
  drawShoppers();
  $("forget").textContent = `Forget ${user}`;
  show(views.get(user) ?? { user, list: null, cold: true, history: [], interests: [] });
}

function drawShoppers() {
  const focused = document.activeElement?.dataset?.user;
  $("shoppers").replaceChildren(...users.map((user) => make("li", {},
    make("button", { type: "button", "data-user": user, "aria-current": user === current ? "true" : null, onclick: () => choose(user) },
      user, changed.has(user) ? make("span", { class: "dot" }, unseen(" has a new list")) : null))));
  [...$("shoppers").querySelectorAll("button")].find((button) => focused !== undefined && button.dataset.user === focused)?.focus();
}

$("add-shopper").addEventListener("submit", (event) => {
  event.preventDefault();
  const user = $("shopper-id").value.trim();
  $("shopper-id").value = "";
  if (user) choose(user);
});

// ---------------------------------------------------------------- events

function newId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Send a click or a purchase to Kafka, by the same interface that a shop's backend uses. */
async function act(type, item, from) {
  if (session.write_token && !token("write")) {
    askForTokens("To click, buy and forget, enter the write token.");
    return;
  }
  const user = current;
  const event = { type, event_id: newId(), user_id: user, item_id: item.item_id, timestamp: Date.now() };
  if (from?.user_id === user) Object.assign(event, { list_id: from.list_id, position: item.rank });
  if (type === "purchase" && item.price !== null) Object.assign(event, { price: item.price, currency: item.currency ?? undefined });
  const what = `${type === "purchase" ? "Bought" : "Viewed"} ${item.title}`;
  timing.clicked(event, what, window.event?.timeStamp ?? performance.now());
  try {
    await ask("write", `${API}/events`, { method: "POST", body: { events: [event] } });
    timing.acknowledged(event.event_id);
    problem("");
  } catch (error) {
    timing.failed(event.event_id);
    failed(error);
  }
}

$("forget").addEventListener("click", () => {
  $("forget-title").textContent = `Forget ${current}?`;
  $("forget-dialog").returnValue = "cancel";
  $("forget-dialog").showModal();
});

$("forget-dialog").addEventListener("close", async () => {
  if ($("forget-dialog").returnValue !== "forget") return;
  const user = current;
  try {
    await ask("write", `${API}/users/${encodeURIComponent(user)}`, { method: "DELETE" });
    timing.forgotten(user);
    problem("");
    announce(`Asked the workers to forget ${user}`);
  } catch (error) {
    failed(error);
  }
});

// ---------------------------------------------------------------- what the server sends

function show(view) {
  const changes = list.show(view);
  showKnown(view);
  return changes;
}

function received(view) {
  const before = views.get(view.user);
  views.set(view.user, view);
  const isNew = before?.list?.list_id !== view.list?.list_id;
  if (view.user !== current) {
    if (isNew && before && !view.cold) changed.add(view.user);
    drawShoppers();
    return;
  }
  const click = timing.answered(view.user, view.list);
  const changes = show(view);
  if (click) timing.painted(click, view.list).then((tookMs) => tell(view, changes, tookMs));
  else if (isNew && before) tell(view, changes, null);
}

// Where the list is not on the screen (a phone that shows the shop), a button says that it has changed.
let listIsVisible = true;
new IntersectionObserver(([entry]) => {
  listIsVisible = entry.isIntersecting;
  if (listIsVisible) $("news").hidden = true;
}).observe($("recommendations"));

$("news").addEventListener("click", () => {
  $("list").scrollIntoView();
  $("list").focus({ preventScroll: true });
});

function tell(view, changes, tookMs) {
  if (!listIsVisible && !view.cold) {
    $("news").textContent = `New list${tookMs === null ? "" : ` in ${Math.round(tookMs)} ms`}. Show it`;
    $("news").hidden = false;
  }
  if (view.cold) {
    announce(`${view.user} has no list of their own`);
    return;
  }
  const after = tookMs === null ? "" : ` ${Math.round(tookMs)} milliseconds after the click`;
  const what = changes ? `: ${changes.added} new, ${changes.up} up, ${changes.down} down. First: ${changes.first}` : "";
  announce(`New list${after}${what}`);
}

function server({ catalogue, recent_users }) {
  const others = recent_users.filter((user) => !users.includes(user));
  $("recent-shoppers").replaceChildren(...others.map((user) => make("option", { value: user })));
  if (catalogue !== shop.catalogue) shop.load();
}

function openStream() {
  endStream();
  if (document.hidden) {
    connection("paused", "Paused while hidden");
    return;
  }
  const query = users.map((user) => `user=${encodeURIComponent(user)}`).join("&");
  endStream = follow(`stream?${query}`, (event, data) => {
    if (event === "shopper") received(data);
    else if (event === "pipeline") showPipeline(data);
    else if (event === "server") server(data);
  }, (state, error) => {
    if (state === "live") {
      connection("live", "Live");
    } else if (state === "waiting") {
      connection("waiting", "Reconnecting");
    } else {
      connection("refused", "Token needed");
      askForTokens(token("read") ? error.message : "");
    }
  });
}

// A browser opens six connections to a server at most, for all tabs. A hidden tab holds none.
document.addEventListener("visibilitychange", openStream);

function connection(state, text) {
  if (connected === state) return;
  connected = state;
  $("connection").dataset.state = state;
  $("connection").textContent = text;
}

function failed(error) {
  if (error.status === 401 || error.status === 403) askForTokens(error.message);
  else problem(error instanceof TypeError ? "The server does not answer. The page tries again by itself." : error.message);
}

// ---------------------------------------------------------------- tokens

function askForTokens(why) {
  $("token-refused").textContent = why;
  $("token-refused").hidden = !why;
  $("read-token").value = token("read");
  $("write-token").value = token("write");
  if (!$("token-dialog").open) $("token-dialog").showModal();
}

$("token-dialog").addEventListener("close", () => {
  keepToken("read", $("read-token").value.trim());
  keepToken("write", $("write-token").value.trim());
  start();
});

// ---------------------------------------------------------------- start

async function start() {
  try {
    session = await ask("read", "session");
  } catch (error) {
    connection("waiting", "Reconnecting");
    setTimeout(start, 1000);
    return;
  }
  if (session.read_token && !token("read")) {
    connection("refused", "Token needed");
    askForTokens("");
    return;
  }
  choose(current);
  openStream();
  shop.load();
}

setInterval(renewTimes, 5000);
start();
