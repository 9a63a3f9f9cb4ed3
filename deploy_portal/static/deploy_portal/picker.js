// Choosing machines from a server-rendered table: search, groups, ranges, pasted names. Works on
//   <fieldset data-picker> … <tbody><tr data-hostname data-address data-site data-labels='{"rack": "a1"}' data-is="planned"
//     data-blocked="why not"><td><input type="checkbox" name="machines" value="7"></td> … </tr></tbody></fieldset>
// Tools and words: templates/_picker_tools.html, _picker_sum.html. A word's plural forms are data-one and data-other.
"use strict";

(() => {
  const LARGEST_RANGE = 10000;
  const natural = new Intl.Collator(undefined, { numeric: true });

  const fill = (words, ...values) => values.reduce((text, value) => text.replace("%d", value), words ?? "");

  // Writes the words of an element for these numbers; the first one decides between one and other.
  function say(element, ...numbers) {
    const { zero, one, other } = element.dataset;
    const words = numbers[0] === 0 && zero !== undefined ? zero : numbers[0] === 1 ? one ?? other : other;
    element.textContent = fill(words, ...numbers);
  }

  function put(lists, key, value) {
    if (lists.has(key)) lists.get(key).push(value);
    else lists.set(key, [value]);
  }

  // web-[001-003] -> web-001, web-002, web-003; the width of the first number is kept.
  function expand(word) {
    const range = /^(.*?)\[(\d+)-(\d+)\](.*)$/.exec(word);
    if (!range) return [word];
    const [, before, from, to, after] = range;
    if (+to < +from || to - from >= LARGEST_RANGE) return [word];
    const ends = expand(after);
    if ((to - from + 1) * ends.length > LARGEST_RANGE) return [word];
    const words = [];
    for (let n = +from; n <= +to; n++) {
      for (const end of ends) words.push(before + String(n).padStart(from.length, "0") + end);
    }
    return words;
  }

  function readRow(row) {
    const { hostname, address = "", site = "", labels = "{}", blocked = "" } = row.dataset;
    const values = JSON.parse(labels);
    return {
      row, hostname, address, site, blocked, labels: values,
      box: row.querySelector("input[type=checkbox]"),
      wait: row.querySelector("input[name=when_free], input[name=moved]"), // held or moved: named on its own
      is: new Set((row.dataset.is ?? "").split(" ")),
      text: [hostname, address, site, ...Object.values(values), ...Object.entries(values).map(([key, value]) => `${key}=${value}`)]
        .join("\n").toLowerCase(),
      shown: true,
    };
  }

  function start(picker) {
    const part = (name) => picker.querySelector(`[data-picker-${name}]`);
    const table = picker.querySelector("table");
    const machines = [...table.querySelectorAll("tr[data-hostname]")].map(readRow);
    const byRow = new Map(machines.map((machine) => [machine.row, machine]));
    const chips = [...picker.querySelectorAll("[data-picker-show]")];
    const mains = [...document.querySelectorAll("[data-picker-main]")].filter((main) => main.form === picker.form);
    const groupRow = part("group-row");
    let groups = []; // {body, header, members}
    let filter = "";
    let lastRow = null;
    let pasted = [];

    const chosen = (machine) => (machine.box.checked && !machine.box.disabled) || machine.wait?.checked;
    const passes = (machine) => filter === ""
      || (filter === "selected" ? chosen(machine) : filter === "blocked" ? machine.box.disabled : machine.is.has(filter));

    // ---- What is shown ----
    function search() {
      const words = part("search").value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const machine of machines) {
        const shown = passes(machine) && words.every((word) => machine.text.includes(word));
        if (shown !== machine.shown) machine.row.hidden = !(machine.shown = shown);
      }
      count();
    }

    function group(key) {
      const value = (machine) => key === "site" ? machine.site : key.startsWith("label:") ? machine.labels[key.slice(6)] ?? "" : "";
      const members = new Map();
      for (const machine of machines) put(members, value(machine), machine);
      const names = [...members.keys()]; // sites keep the order of the page
      if (key !== "site") names.sort(natural.compare);
      const bodies = document.createDocumentFragment();
      groups = names.map((name) => {
        const body = document.createElement("tbody");
        let header = null;
        if (key) {
          body.append(groupRow.content.cloneNode(true));
          header = body.firstElementChild;
          header.querySelector("[data-group-name]").textContent = name || "–";
          header.querySelector("input").setAttribute("aria-label", name || "–");
        }
        body.append(...members.get(name).map((machine) => machine.row));
        bodies.append(body);
        return { body, header, members: members.get(name) };
      });
      for (const body of [...table.tBodies]) body.remove();
      table.append(bodies);
      count();
    }

    // ---- What is counted ----
    function count() {
      let found = 0, free = 0, selected = 0, hidden = 0;
      const sites = new Map();
      for (const machine of machines) {
        if (machine.shown) found++;
        if (machine.shown && !machine.box.disabled) free++;
        if (chosen(machine)) {
          selected++;
          sites.set(machine.site, (sites.get(machine.site) ?? 0) + 1);
          if (!machine.shown) hidden++;
        }
      }
      for (const { body, header, members } of groups) {
        const shown = members.filter((machine) => machine.shown);
        body.hidden = shown.length === 0;
        if (!header) continue;
        const able = shown.filter((machine) => !machine.box.disabled);
        const on = able.filter((machine) => machine.box.checked).length;
        const box = header.querySelector("input");
        box.disabled = able.length === 0;
        box.checked = on > 0 && on === able.length;
        box.indeterminate = on > 0 && on < able.length;
        say(header.querySelector("[data-group-count]"), shown.length, on);
      }
      say(part("all"), free);
      part("all").disabled = free === 0;
      part("none").hidden = found > 0;
      say(part("selected"), selected);
      part("sites").textContent = [...sites].map(([site, n]) => `${site} ${n}`).join(" · ");
      part("hidden").hidden = hidden === 0;
      say(part("hidden"), hidden);
      part("clear").hidden = selected === 0;
      for (const chip of chips) if (chip.dataset.pickerShow === "selected") say(chip, selected);
      for (const main of mains) {
        say(main, selected);
        main.disabled = selected === 0;
      }
    }

    function choose(some, on) {
      for (const machine of some) {
        if (!machine.box.disabled) machine.box.checked = on;
        if (machine.wait && !on) machine.wait.checked = false;
      }
      count();
    }

    // ---- Pasted names ----
    function namesOf() {
      const names = new Map();
      for (const machine of machines) {
        const { hostname, address } = machine;
        for (const name of new Set([hostname, hostname.split(".")[0], address].map((text) => text.toLowerCase()))) {
          if (name) put(names, name, machine);
        }
      }
      return names;
    }

    function list(name, words) {
      const item = part(`paste-${name}`);
      item.hidden = words.length === 0;
      say(item.querySelector("[data-other]"), words.length);
      for (const code of item.querySelectorAll("code")) code.textContent = words.join(", ");
    }

    function readPaste() {
      const names = namesOf();
      const found = new Set(), blocked = new Set(), ambiguous = new Set(), missing = new Set();
      for (const word of part("paste-text").value.split(/[\s,;，；、]+/).filter(Boolean).flatMap(expand)) {
        const exact = names.get(word.toLowerCase()) ?? [];
        if (exact.length === 0) missing.add(word);
        else if (exact.length > 1) ambiguous.add(`${word} (${exact.map((machine) => machine.hostname).join(" / ")})`);
        else if (exact[0].box.disabled) blocked.add(exact[0].hostname + (exact[0].blocked && ` (${exact[0].blocked})`));
        else found.add(exact[0]);
      }
      pasted = [...found];
      list("found", pasted.map((machine) => machine.hostname));
      list("blocked", [...blocked]);
      list("ambiguous", [...ambiguous]);
      list("missing", [...missing]);
      say(part("paste-add"), pasted.length);
      part("paste-add").disabled = pasted.length === 0;
    }

    // ---- Events, all on the fieldset ----
    picker.addEventListener("input", (event) => {
      if (event.target === part("search")) search();
      if (event.target === part("paste-text")) readPaste();
      if (event.target === part("group")) group(event.target.value);
    });

    picker.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target === part("search")) event.preventDefault(); // it would send the form
    });

    picker.addEventListener("click", (event) => {
      const chip = event.target.closest("[data-picker-show]");
      if (chip) {
        filter = chip.dataset.pickerShow;
        for (const other of chips) other.setAttribute("aria-pressed", other === chip);
        search();
      } else if (event.target.closest("[data-picker-all]")) {
        choose(machines.filter((machine) => machine.shown), true);
      } else if (event.target.closest("[data-picker-clear]")) {
        choose(machines, false);
      } else if (event.target.closest("[data-picker-paste]")) {
        const button = part("paste");
        const open = button.getAttribute("aria-expanded") !== "true";
        button.setAttribute("aria-expanded", open);
        part("paste-panel").hidden = !open;
        if (open) part("paste-text").focus();
      } else if (event.target.closest("[data-picker-paste-add]")) {
        choose(pasted, true);
      } else if (event.target.matches("tbody input[type=checkbox]")) {
        clickBox(event);
      }
    });

    function clickBox(event) {
      const row = event.target.closest("tr");
      const group = groups.find(({ header }) => header === row);
      if (group) return choose(group.members.filter((machine) => machine.shown), event.target.checked);
      if (event.shiftKey && byRow.has(lastRow) && byRow.get(lastRow).shown) {
        const shown = groups.flatMap(({ members }) => members).filter((machine) => machine.shown);
        const ends = [shown.indexOf(byRow.get(lastRow)), shown.indexOf(byRow.get(row))].sort((a, b) => a - b);
        choose(shown.slice(ends[0], ends[1] + 1), event.target.checked);
      }
      lastRow = row;
      return count();
    }

    // ---- Start ----
    for (const key of [...new Set(machines.flatMap((machine) => Object.keys(machine.labels)))].sort(natural.compare)) {
      const option = new Option(part("group").dataset.label.replace("%s", key), `label:${key}`);
      part("group").append(option);
    }
    for (const element of picker.querySelectorAll("[data-picker-script]")) element.hidden = false;
    group(part("group").value);
    readPaste();
    search();
    // A browser that goes back restores the boxes after the scripts ran.
    window.addEventListener("pageshow", search);
  }

  document.addEventListener("DOMContentLoaded", () => {
    for (const picker of document.querySelectorAll("[data-picker]")) start(picker);
  });
})();
