// For pages that poll with htmx: how fresh they are, arrow keys among tiles, the log pane, and the menu. docs/pages.md shows the mark-up.
"use strict";

(() => {
  const fill = (words, ...values) => values.reduce((text, value) => text.replace(/%[ds]/, value), words || "");

  // ---- [data-live]: "Live, 1 s ago", or since when the portal does not answer ----
  const SILENCE = 30_000; // ms without an answer that count as lost, should the polling itself have stopped
  let answeredAt = Date.now();
  let lostAt = null;
  const silent = new Set(); // what asks again and again, and last had or shows no answer, whatever else is answered
  const spoken = document.createElement("p"); // says a change once; the indicator itself changes every second
  spoken.className = "unseen";
  spoken.setAttribute("role", "status");

  const clock = new Intl.DateTimeFormat("en-GB", {
    timeZone: document.documentElement.dataset.timeZone,
    hour: "2-digit", minute: "2-digit", second: "2-digit",
  });

  function showLive() {
    // Where nothing is live any more, what is shown has ended and stays as it is, whether the portal answers or not.
    const isLost = lostAt !== null && document.querySelector("[data-live]") !== null;
    for (const element of document.querySelectorAll("[data-live]")) {
      const text = lostAt === null
        ? fill(element.dataset.live, Math.round((Date.now() - answeredAt) / 1000))
        : fill(element.dataset.lost, clock.format(lostAt));
      if (element.textContent !== text) element.textContent = text;
      element.classList.toggle("lost", lostAt !== null);
    }
    for (const element of document.querySelectorAll("[data-live-figures]")) {
      element.classList.toggle("stale", isLost);
    }
    // Dim and not disabled: should only the polling fail, a run can still be cancelled.
    document.body.classList.toggle("lost", isLost);
  }

  function answered(asker) {
    silent.delete(asker);
    for (const other of silent) if (!other.isConnected) silent.delete(other);
    if (silent.size) return;
    answeredAt = Date.now();
    if (lostAt !== null) spoken.textContent = "";
    lostAt = null;
    showLive();
  }

  function lost(asker) {
    if (asker?.matches("[hx-trigger*=every]")) silent.add(asker);
    if (lostAt === null) {
      lostAt = Date.now();
      showLive();
      spoken.textContent = document.querySelector("[data-live]")?.textContent ?? "";
    }
  }

  // ---- [data-live-ended] and the note among the figures: said once more when they are other ones ----
  let told = null;

  function tell() {
    const parts = [...document.querySelectorAll("[data-live-ended], [data-live-figures] > .note > .status")];
    const text = parts.map((part) => part.textContent.trim()).join(". ");
    const what = text.replace(/\d+/g, ""); // a number that counts on is not said each second
    if (told !== null && what !== told) spoken.textContent = text;
    told = what;
  }

  // ---- [data-tiles]: one tab stop per grid, arrows move inside ----
  const lastTile = new Map(); // grid id -> tile id, so that a swap does not lose the place

  function rove(grid, tile) {
    for (const other of grid.children) other.tabIndex = other === tile ? 0 : -1;
    lastTile.set(grid.id, tile.id);
  }

  let marking = false; // htmx tells of every line that it appends: mark once

  // Outlines the tile whose log is shown; before the swap is painted, so that it does not flicker.
  function markShown() {
    marking = false;
    const shown = document.querySelector("[data-log-of]")?.dataset.logOf;
    for (const tile of document.querySelectorAll(`[data-tiles] > [aria-current], #${shown ?? "none"}`)) {
      if (tile.id === shown) tile.setAttribute("aria-current", "true");
      else tile.removeAttribute("aria-current");
    }
  }

  function prepareTiles() {
    for (const grid of document.querySelectorAll("[data-tiles]")) {
      const focused = document.activeElement?.parentElement === grid ? document.activeElement : null;
      const last = document.getElementById(lastTile.get(grid.id));
      const tile = focused ?? (last?.parentElement === grid ? last : grid.firstElementChild);
      if (tile) rove(grid, tile);
    }
  }

  function moveAmongTiles(event) {
    const tile = event.target.closest("[data-tiles] > *");
    if (!tile || event.altKey || event.ctrlKey || event.metaKey) return;
    const tiles = [...tile.parentElement.children];
    const columns = getComputedStyle(tile.parentElement).gridTemplateColumns.split(" ").length;
    const here = tiles.indexOf(tile);
    const there = {
      ArrowLeft: here - 1, ArrowRight: here + 1, ArrowUp: here - columns, ArrowDown: here + columns,
      Home: 0, End: tiles.length - 1,
    }[event.key];
    if (there === undefined) return;
    event.preventDefault();
    tiles[there]?.focus();
  }

  // ---- [data-log]: follow, search, first error ----
  const markedFor = new WeakMap(); // line -> the term its marks are for
  const lastTop = new WeakMap(); // pane -> how far it was scrolled

  const part = (log, name) => log.querySelector(`[data-log-${name}]`);
  const atEnd = (pane) => pane.scrollTop + pane.clientHeight >= pane.scrollHeight - 4;

  function markLine(code, term) {
    if ((markedFor.get(code) ?? "") === term) return;
    markedFor.set(code, term);
    const text = code.textContent;
    const pieces = document.createDocumentFragment();
    let end = 0;
    if (term) {
      const literal = term.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
      for (const hit of text.matchAll(new RegExp(literal, "gi"))) {
        const mark = document.createElement("mark");
        mark.textContent = hit[0];
        pieces.append(text.slice(end, hit.index), mark);
        end = hit.index + hit[0].length;
      }
    }
    pieces.append(text.slice(end));
    code.replaceChildren(pieces);
  }

  function searchLog(log, step) {
    const term = part(log, "search")?.value.trim() ?? "";
    for (const code of part(log, "lines").querySelectorAll("code")) markLine(code, term);
    const hits = [...log.querySelectorAll("mark")];
    let here = hits.findIndex((hit) => hit.classList.contains("here"));
    hits[here]?.classList.remove("here");
    here = hits.length ? (Math.max(here, 0) + step + hits.length) % hits.length : -1;
    hits[here]?.classList.add("here");
    const count = part(log, "count");
    if (count) {
      const words = !term ? "" : hits.length ? fill(count.dataset.some, here + 1, hits.length) : count.dataset.none;
      if (count.textContent !== words) count.textContent = words; // or it would be read out at every poll
    }
    for (const name of ["up", "down"]) if (part(log, name)) part(log, name).disabled = hits.length === 0;
    return hits[here];
  }

  function showInLog(log, element) {
    if (!element) return;
    if (part(log, "follow")) part(log, "follow").checked = false;
    element.scrollIntoView({ block: "center" });
  }

  function follow(log) {
    const pane = part(log, "lines");
    if (part(log, "follow")?.checked) pane.scrollTop = pane.scrollHeight;
  }

  function prepareLogs() {
    for (const log of document.querySelectorAll("[data-log]")) {
      searchLog(log, 0);
      if (part(log, "error")) part(log, "error").disabled = !log.querySelector(".err");
      follow(log);
    }
  }

  // ---- [data-log-wrong]: the log of the first that went wrong, while nobody opened or reads another ----
  let isRead = false;

  function showWrong() {
    const wrong = document.querySelector("[data-log-wrong]")?.dataset.logWrong;
    const shown = document.querySelector("#log-pane h2 a")?.getAttribute("href");
    if (isRead || !wrong || !shown || wrong === shown) return;
    htmx.ajax("GET", wrong, { source: "#log-pane", target: "#log-pane", swap: "innerHTML" }).catch(() => {});
  }

  function tellThatItFailed(pane, asker) {
    const note = pane.querySelector(":scope > .note");
    const isByItself = asker === pane; // `showWrong` asks again at every poll
    if (note && isByItself) return;
    note?.remove();
    pane.prepend(document.getElementById("log-failed").content.cloneNode(true));
    if (!isByItself) pane.scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("input", (event) => {
    const log = event.target.closest("[data-log]");
    if (!log) return;
    if (event.target.matches("[data-log-search]")) showInLog(log, searchLog(log, 0));
    if (event.target.matches("[data-log-follow]")) follow(log);
  });

  document.addEventListener("click", (event) => {
    const log = event.target.closest("[data-log]");
    if (!log) return;
    if (event.target.closest("[data-log-up]")) showInLog(log, searchLog(log, -1));
    if (event.target.closest("[data-log-down]")) showInLog(log, searchLog(log, 1));
    if (event.target.closest("[data-log-error]")) showInLog(log, log.querySelector(".err"));
  });

  // One listener for all tiles: htmx would go through each of them at every swap.
  document.addEventListener("click", (event) => {
    const tile = event.target.closest("[data-tiles=log] > [href]");
    if (!tile || !window.htmx || event.ctrlKey || event.metaKey || event.shiftKey) return; // a link all the same
    event.preventDefault();
    isRead = true;
    const options = { source: tile, target: "#log-pane", swap: "innerHTML" };
    htmx.ajax("GET", tile.getAttribute("href"), options).catch(() => {}); // htmx tells of it by an event
  });

  document.addEventListener("keydown", (event) => {
    moveAmongTiles(event);
    if (event.key === "Enter" && event.target.matches("[data-log-search]")) {
      event.preventDefault();
      const log = event.target.closest("[data-log]");
      showInLog(log, searchLog(log, event.shiftKey ? -1 : 1));
    }
  });

  document.addEventListener("focusin", (event) => {
    const tile = event.target.closest?.("[data-tiles] > *");
    if (tile) rove(tile.parentElement, tile);
    if (event.target.closest?.("#log-pane")) isRead = true;
  });

  // Scrolling up ends following, reaching the end starts it again. New lines never lower scrollTop.
  document.addEventListener("scroll", (event) => {
    const pane = event.target;
    const box = pane.matches?.("[data-log-lines]") && part(pane.closest("[data-log]"), "follow");
    if (!box) return;
    if (atEnd(pane)) box.checked = true;
    else if (pane.scrollTop < (lastTop.get(pane) ?? 0)) {
      box.checked = false;
      isRead = true;
    }
    lastTop.set(pane, pane.scrollTop);
  }, true);

  // ---- htmx ----
  document.addEventListener("htmx:afterSwap", (event) => {
    if (!marking) queueMicrotask(markShown);
    marking = true;
    const { target, requestConfig } = event.detail;
    if (!requestConfig.elt.matches("[data-tiles] > *")) return;
    // The log that a tile opened may lie below the edge of a phone, and the focus stays on the tile.
    target.scrollIntoView({ block: "nearest" });
    const words = [...target.querySelectorAll("h2, #log-status")].map((part) => part.textContent.trim());
    spoken.textContent = words.join(": ");
  });

  // ---- #run-title: takes the focus from a button that went with the end of the run ----
  let focused = null;

  function isFocusLost() {
    return focused && !focused.isConnected && document.activeElement === document.body;
  }

  function keepFocus() {
    // While it is live the title is swapped too, and would be read out at every poll.
    if (isFocusLost() && !document.querySelector("[data-live]")) document.getElementById("run-title")?.focus();
  }

  // ---- What is selected stays for a while, so that it can be copied; until then the page says how old it is ----
  const TO_COPY = 10_000; // ms
  let selectedAt = 0;
  document.addEventListener("selectionchange", () => { selectedAt = Date.now(); });

  function isBeingCopied({ target, requestConfig }) {
    const { isCollapsed, anchorNode } = getSelection();
    // Who selects one after the other is shown what is new in between, and no lost connection.
    const isFresh = Date.now() - selectedAt < TO_COPY && Date.now() - answeredAt < 2 * TO_COPY;
    return isFresh && !isCollapsed && requestConfig.elt.matches("[hx-trigger*=every]") && target.contains(anchorNode);
  }

  // ---- What polls: not while nobody sees the page; while answers take long, for many watch, the less often ----
  const REST = 3; // times as long as an answer was waited for
  const LONGEST_REST = 10_000; // ms
  const restsUntil = new Map(); // path -> when; one for all would leave no turn to a run, which asks less often than its log
  let seenSince = 0;
  document.addEventListener("visibilitychange", () => { seenSince = Date.now(); }); // what polls asks at once, too

  const pathOf = (requestConfig) => requestConfig.path.split("?")[0];

  document.addEventListener("htmx:beforeRequest", (event) => {
    const { elt, requestConfig } = event.detail;
    requestConfig.askedAt = performance.now(); // by a clock that nobody sets back, or all would rest for as long as it was
    const rests = performance.now() < restsUntil.get(pathOf(requestConfig));
    if (elt.matches("[hx-trigger^=every]") && (document.hidden || rests)) event.preventDefault();
  });
  document.addEventListener("htmx:afterRequest", ({ detail: { requestConfig } }) => { // answered or given up
    const now = performance.now();
    restsUntil.set(pathOf(requestConfig), now + Math.min(LONGEST_REST, REST * (now - requestConfig.askedAt)));
  });

  let due = false; // one answer may settle many parts: prepare once
  function prepare() {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      prepareTiles();
      prepareLogs();
      keepFocus();
      showWrong();
      showLive();
      tell();
    });
  }

  document.addEventListener("htmx:beforeSwap", (event) => {
    // What a cancel took away is gone some polls before the end.
    if (!isFocusLost()) focused = document.activeElement;
    const { xhr, requestConfig } = event.detail;
    // Sent to the login page, which must not land inside this one: load the whole page, which comes back here.
    if (xhr.responseURL && new URL(xhr.responseURL).pathname !== new URL(requestConfig.path, location.href).pathname) {
      event.preventDefault();
      location.reload();
    }
    if (isBeingCopied(event.detail)) event.detail.shouldSwap = false;
  });
  document.addEventListener("htmx:afterOnLoad", (event) => {
    const { xhr, requestConfig } = event.detail;
    if (xhr.status >= 400) return; // htmx says this of errors too
    if (isBeingCopied(event.detail)) silent.add(requestConfig.elt);
    else answered(requestConfig.elt);
  });
  document.addEventListener("htmx:afterSettle", prepare);
  for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
    document.addEventListener(name, ({ detail: { requestConfig, target } }) => {
      if (target.id === "log-pane") tellThatItFailed(target, requestConfig.elt);
      else lost(requestConfig.elt);
    });
  }

  // ---- .menu: closed when the focus leaves it, for it covers what comes next ----
  document.addEventListener("focusin", (event) => {
    const menu = document.querySelector(".menu[open]");
    if (menu && !menu.contains(event.target) && !event.target.closest?.("dialog")) menu.open = false;
  });

  document.addEventListener("DOMContentLoaded", () => {
    document.body.append(spoken);
    prepare();
    setInterval(() => {
      if (!document.hidden && Date.now() - Math.max(answeredAt, seenSince) > SILENCE) lost();
      showLive();
    }, 1000);
  });
})();
