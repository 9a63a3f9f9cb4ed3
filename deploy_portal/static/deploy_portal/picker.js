// Choosing machines out of a list that came as data: search, groups, ranges, pasted names. Works on
//   <fieldset data-picker> of templates/_picker.html, whose plain table it replaces.
// What is chosen is kept on the machines and not in the page, which shows the first ones of what was found; picker_data.js
// reads the list and writes the choice. A word's plural forms are data-one and data-other.
"use strict";

(() => {
  const { natural, put, readMachines, inHalfWidth, readPasted, carry } = window.pickerData;
  const DRAWN = 300; // so many groups and rows at first, and so many more for each click

  // Writes the words of an element for these numbers; the first one decides between one and other.
  function say(element, ...numbers) {
    const { zero, one, other } = element.dataset;
    const words = numbers[0] === 0 && zero !== undefined ? zero : numbers[0] === 1 ? one ?? other : other;
    const text = numbers.reduce((some, number) => some.replace("%d", number), words ?? "");
    if (element.textContent !== text) element.textContent = text; // or it would be read out at every key of a search
  }

  function start(picker) {
    const part = (name) => picker.querySelector(`[data-picker-${name}]`);
    const copy = (name) => part(name).content.firstElementChild.cloneNode(true);
    const table = picker.querySelector("table");
    const machines = readMachines(JSON.parse(document.getElementById("machines-data").textContent), picker.form);
    const chips = [...picker.querySelectorAll("[data-picker-show]")];
    const mains = [...document.querySelectorAll("[data-picker-main]")].filter((main) => main.form === picker.form);
    const byRow = new Map(); // what a drawn row stands for: a machine, or a group
    const keep = carry(picker.form, machines);
    let groups = []; // {name, members, found, more, header}
    let groupsDrawn = DRAWN;
    let filter = "";
    let last = null; // the machine that was clicked last
    let pasted = [];
    let withShift = false; // the last Space or mouse button; Firefox does not say it of the click that a key makes

    const chosen = (machine) => machine.on || machine.otherOn;
    const passes = (machine) => filter === ""
      || (filter === "selected" ? chosen(machine) : filter === "blocked" ? machine.blocked : machine.is.has(filter));

    // ---- What is found ----
    function search() {
      const words = inHalfWidth(part("search").value).toLowerCase().split(/\s+/).filter(Boolean);
      for (const machine of machines) machine.found = passes(machine) && words.every((word) => machine.text.includes(word));
      for (const group of groups) {
        group.found = group.members.filter((machine) => machine.found);
        group.more = 0;
      }
      groupsDrawn = DRAWN;
      draw();
    }

    function group(key) {
      const label = key.slice("label:".length); // empty for other keys, as no label's name is
      const value = ({ site, labels }) => key === "site" ? site : Object.hasOwn(labels, label) ? labels[label] : "";
      const members = new Map();
      for (const machine of machines) put(members, value(machine), machine);
      const names = [...members.keys()]; // sites keep the order of the page
      if (key !== "site") names.sort(natural.compare);
      groups = names.map((name) => ({ name, members: members.get(name), titled: key !== "" }));
      search();
    }

    // ---- What is drawn ----
    function draw() {
      let room = 0;
      byRow.clear();
      const hits = groups.filter(({ found }) => found.length > 0);
      const bodies = hits.slice(0, groupsDrawn).map((group, n) => {
        if (n % DRAWN === 0) room = DRAWN; // groups that a click adds take none from those before
        const body = document.createElement("tbody");
        const rows = group.found.slice(0, room + group.more);
        room = Math.max(0, room - rows.length);
        group.header = group.titled ? header(group) : null;
        body.append(...(group.header ? [group.header] : []), ...rows.map(row));
        if (rows.length < group.found.length) body.append(more(group, group.found.length - rows.length));
        return body;
      });
      for (const body of [...table.tBodies]) body.remove();
      table.append(...bodies);
      if (hits.length > groupsDrawn) table.append(moreGroups(hits.length - groupsDrawn));
      refresh();
    }

    function header(group) {
      const row = copy("group-row");
      row.querySelector("[data-group-name]").textContent = group.name || "–";
      row.querySelector("input").setAttribute("aria-label", group.name || "–");
      byRow.set(row, group);
      return row;
    }

    function more(group, left) {
      const row = copy("more-row");
      say(row.querySelector("[data-picker-more]"), left);
      byRow.set(row, group);
      return row;
    }

    function moreGroups(left) {
      const body = document.createElement("tbody");
      body.append(copy("more-groups-row"));
      say(body.querySelector("[data-picker-more-groups]"), left);
      return body;
    }

    function row(machine) {
      machine.row ??= make(machine);
      byRow.set(machine.row, machine);
      return machine.row;
    }

    function make(machine) {
      const row = copy("row");
      const [, name, address, site, version, told] = row.cells;
      row.dataset.hostname = machine.hostname;
      row.classList.toggle("gone", machine.status === "gone");
      machine.box = row.querySelector("input");
      machine.box.id = `m${machine.id}`;
      machine.box.disabled = machine.blocked;
      name.firstElementChild.htmlFor = machine.box.id;
      name.querySelector("code").textContent = machine.hostname;
      address.firstElementChild.textContent = machine.address;
      site.textContent = machine.site;
      version.firstElementChild.textContent = machine.version || "–";
      if (machine.word) told.append(element("span", machine.word, `status ${machine.status}`));
      if (machine.words) told.append(element("small", machine.words));
      if (machine.other) told.lastElementChild.append(" ", element("span", "·", "more"), " ", otherBox(machine));
      return row;
    }

    function element(name, words, classes = "") {
      const made = document.createElement(name);
      made.textContent = words;
      made.className = classes;
      return made;
    }

    function otherBox(machine) {
      const label = document.createElement("label");
      machine.otherBox = document.createElement("input");
      Object.assign(machine.otherBox, { type: "checkbox", autocomplete: "off" });
      label.append(machine.otherBox, ` ${machine.otherWords}`);
      return label;
    }

    // Makes what is drawn say what is chosen.
    function refresh() {
      for (const [row, machine] of byRow) {
        if (row !== machine.row) continue;
        machine.box.checked = machine.on;
        if (machine.otherBox) machine.otherBox.checked = machine.otherOn;
      }
      for (const { header, found } of groups) if (header) count(header, found);
      const all = machines.filter(chosen);
      const found = machines.filter((machine) => machine.found);
      const sites = new Map();
      for (const { site } of all) sites.set(site, (sites.get(site) ?? 0) + 1);
      part("sites").textContent = [...sites].map(([site, n]) => `${site} ${n}`).join(" · ");
      say(part("none"), found.length);
      part("all").disabled = found.every((machine) => machine.blocked);
      part("clear").hidden = all.length === 0;
      const hidden = all.filter((machine) => !machine.found).length;
      part("hidden").hidden = hidden === 0;
      say(part("hidden"), hidden);
      say(part("all"), found.filter((machine) => !machine.blocked).length);
      say(part("selected"), all.length);
      for (const chip of chips) if (chip.dataset.pickerShow === "selected") say(chip, all.length);
      for (const main of mains) {
        say(main, all.length);
        main.disabled = all.length === 0;
      }
    }

    function count(header, found) {
      const able = found.filter((machine) => !machine.blocked);
      const on = able.filter((machine) => machine.on).length;
      const box = header.querySelector("input");
      box.disabled = able.length === 0;
      box.checked = on > 0 && on === able.length;
      box.indeterminate = on > 0 && on < able.length;
      say(header.querySelector("[data-group-count]"), found.length, on);
    }

    function choose(some, on) {
      for (const machine of some) {
        if (!machine.blocked) machine.on = on;
        if (!on) machine.otherOn = false;
      }
      refresh();
      keep();
    }

    // ---- Pasted names ----
    function list(name, words) {
      const item = part(`paste-${name}`);
      item.hidden = words.length === 0;
      say(item.querySelector("[data-other]"), words.length);
      const code = item.querySelector("code"), names = words.join(", ");
      if (code && code.textContent !== names) code.textContent = names; // or it would be read out at every key
    }

    function paste() {
      const { found, blocked, ambiguous, missing } = readPasted(part("paste-text").value, machines);
      pasted = found;
      list("found", pasted);
      list("blocked", blocked);
      list("ambiguous", ambiguous);
      list("missing", missing);
      say(part("paste-add"), pasted.length);
      part("paste-add").disabled = pasted.length === 0;
    }

    // ---- Events, all on the fieldset ----
    picker.addEventListener("input", (event) => {
      if (event.target === part("search")) search();
      if (event.target === part("paste-text")) paste();
      if (event.target === part("group")) group(event.target.value);
    });

    picker.addEventListener("keydown", (event) => {
      withShift = event.shiftKey && event.key === " ";
      if (event.key === "Enter" && event.target === part("search")) event.preventDefault(); // it would send the form
    });

    picker.addEventListener("mousedown", (event) => {
      withShift = event.shiftKey;
      if (withShift && event.target.closest("tbody label")) event.preventDefault(); // it would select text
    });

    picker.addEventListener("click", (event) => {
      const chip = event.target.closest("[data-picker-show]");
      if (chip) {
        filter = chip.dataset.pickerShow;
        for (const other of chips) other.setAttribute("aria-pressed", other === chip);
        search();
      } else if (event.target.closest("[data-picker-all]")) {
        choose(machines.filter((machine) => machine.found), true);
      } else if (event.target.closest("[data-picker-clear]")) {
        choose(machines, false);
        document.getElementById("picked").focus(); // the button is gone
      } else if (event.target.closest("[data-picker-paste]")) {
        const button = part("paste");
        const open = button.getAttribute("aria-expanded") !== "true";
        button.setAttribute("aria-expanded", open);
        part("paste-panel").hidden = !open;
        if (open) part("paste-text").focus();
      } else if (event.target.closest("[data-picker-paste-add]")) {
        choose(pasted, true);
      } else if (event.target.closest("[data-picker-more]")) {
        showMore(byRow.get(event.target.closest("tr")));
      } else if (event.target.closest("[data-picker-more-groups]")) {
        showMoreGroups();
      } else if (event.target.matches("tbody input[type=checkbox]")) {
        clickBox(byRow.get(event.target.closest("tr")), event);
      } else if (withShift && event.target.closest("tbody label")) {
        event.preventDefault(); // Firefox clicks on no box then, others would a second time
        event.target.closest("label").control.click();
      }
    });

    // The focus goes to the first row that was not there before.
    function showMore(group) {
      const before = group.found.filter(({ row }) => byRow.has(row)).length;
      group.more += DRAWN;
      draw();
      group.found[before].box.focus();
    }

    function showMoreGroups() {
      const before = groupsDrawn;
      groupsDrawn += DRAWN;
      draw();
      table.tBodies[before].querySelector("input").focus();
    }

    function clickBox(clicked, event) {
      const { checked } = event.target;
      if (clicked.members) return choose(clicked.found, checked);
      const some = withShift && last?.found ? between(last, clicked) : [clicked];
      last = clicked;
      if (event.target !== clicked.otherBox) return choose(some, checked);
      clicked.otherOn = checked;
      refresh();
      return keep();
    }

    function between(one, other) {
      const found = groups.flatMap((group) => group.found);
      const ends = [found.indexOf(one), found.indexOf(other)].sort((a, b) => a - b);
      return found.slice(ends[0], ends[1] + 1);
    }

    // Ticks that were set in the plain table, by somebody who was faster than the scripts.
    function takeTicks() {
      const byId = new Map(machines.map((machine) => [machine.id, machine]));
      for (const { name, value, checked, defaultChecked } of table.querySelectorAll("tbody input")) {
        if (checked !== defaultChecked) byId.get(+value)[name === "machines" ? "on" : "otherOn"] = checked;
      }
    }

    // Not by the address: its end would go with the form, and what was refused is told at the top.
    picker.querySelector(".past")?.addEventListener("click", (event) => {
      event.preventDefault();
      document.getElementById("picked").focus();
    });

    // ---- Start ----
    const labels = new Set(machines.flatMap((machine) => Object.keys(machine.labels)));
    labels.delete("site"); // which is offered already
    for (const key of [...labels].sort(natural.compare)) {
      const option = new Option(part("group").dataset.label.replace("%s", key), `label:${key}`);
      part("group").append(option);
    }
    takeTicks();
    part("plain")?.remove();
    for (const element of picker.querySelectorAll("[data-picker-script]")) element.hidden = false;
    group(part("group").value);
    paste();
    // A browser that goes back restores the search after the scripts ran; Safari, whose page stayed as it was, empties
    // the search and all boxes once it is shown, for they have autocomplete="off".
    window.addEventListener("pageshow", () => setTimeout(search));
  }

  document.addEventListener("DOMContentLoaded", () => {
    for (const picker of document.querySelectorAll("[data-picker]")) start(picker);
  });
})();
