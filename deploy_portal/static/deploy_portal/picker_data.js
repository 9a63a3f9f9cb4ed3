// The machines of a picker: read from the data of the page, named by a text, and written as the fields of its form.
"use strict";

window.pickerData = (() => {
  const LARGEST_RANGE = 10000;
  // Quotes too, of a CSV file, and the space without width that chats put in.
  const BETWEEN_NAMES = /[\s,;、"'“”‘’\u200b]+/;
  const natural = new Intl.Collator(undefined, { numeric: true });

  function put(lists, key, value) {
    if (lists.has(key)) lists.get(key).push(value);
    else lists.set(key, [value]);
  }

  // ---- Sets of ids as text: 1-200,205 ----
  function fromText(text) {
    const ids = new Set();
    for (const word of (text ?? "").split(",").filter(Boolean)) {
      const [first, last = first] = word.split("-").map(Number);
      for (let id = first; id <= last; id++) ids.add(id);
    }
    return ids;
  }

  function toText(ids) {
    const ranges = [];
    for (const id of ids.sort((a, b) => a - b)) {
      const last = ranges.at(-1);
      if (last && id === last[1] + 1) last[1] = id;
      else ranges.push([id, id]);
    }
    return ranges.map(([first, last]) => (first === last ? first : `${first}-${last}`)).join(",");
  }

  function cameBack() {
    return ["back_forward", "reload"].includes(performance.getEntriesByType("navigation")[0]?.type);
  }

  // What the page says is chosen, or what was before one went away and came back, or loaded it anew: unless somebody else
  // saved another revision meanwhile.
  function chosenIn(data, form) {
    const isKept = cameBack() && history.state?.revision === form.elements.revision?.value;
    const kept = isKept ? history.state?.machines : undefined;
    const sets = new Map(Object.entries(kept ?? data.chosen).map(([name, ids]) => [name, fromText(ids)]));
    return (name, id) => sets.get(name)?.has(id) ?? false;
  }

  // ---- The list: jobs/machine_list.py writes it ----
  // What many have in common comes once, with the ids of those that have it.
  function byId(shared) {
    return new Map(shared.flatMap(([value, ids]) => [...fromText(ids)].map((id) => [id, value])));
  }

  // By what they are, not in the reader's language: as the table without scripts has them.
  function bySiteAndName(a, b) {
    const [one, other] = a.site === b.site ? [a.hostname, b.hostname] : [a.site, b.site];
    return one < other ? -1 : one > other ? 1 : 0;
  }

  function readMachines(data, form) {
    const versions = byId(data.versions), notes = byId(data.notes);
    const marks = Object.entries(data.marks).map(([name, [ids, words]]) => [name, fromText(ids), words]);
    const isChosen = chosenIn(data, form);
    let id = 0;
    const machines = data.ids.map((step, n) => {
      id += step;
      const marked = marks.filter(([, ids]) => ids.has(id));
      const ofMark = marked.find(([, , words]) => words)?.[2] ?? "";
      const [status, word, words, blocked, other, otherWords] = notes.get(id) ?? ["", "", ofMark, false, "", ""];
      const [hostname, address, port, site] = [data.hostnames[n], data.addresses[n], data.ports[n], data.sites[n]];
      const labels = JSON.parse(data.labels[n]);
      return {
        id, hostname, address, port, site, labels, version: versions.get(id) ?? "",
        status, word, words, blocked, other, otherWords,
        is: new Set(marked.map(([name]) => name)),
        text: [hostname, address, site, ...Object.entries(labels).flatMap(([key, value]) => [value, `${key}=${value}`])]
          .join("\n").toLowerCase(),
        on: !blocked && isChosen("machines", id), // the selection: kept here, whatever is shown
        otherOn: isChosen(other, id), // held or moved: named on its own
        found: true,
      };
    });
    return data.sorted ? machines : machines.sort(bySiteAndName);
  }

  // ---- Names ----
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

  function byName(machines, nameOf) {
    const names = new Map();
    for (const machine of machines) put(names, nameOf(machine).toLowerCase(), machine);
    return names;
  }

  // 10.0.0.5:22, web-1:22, [2001:db8::5]:22 and [2001:db8::5]: what is before the port, and the port.
  function withoutPort(word) {
    const [, inside, before, port] = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(word) ?? [];
    return [inside ?? before ?? word, port];
  }

  // What Chinese input methods write in full width.
  function inHalfWidth(text) {
    return text.replace(/[！-～]/g, (character) => String.fromCharCode(character.charCodeAt() - 0xfee0));
  }

  // Which machines a text names; in words those that cannot be chosen, that may be several, and that are none.
  function readPasted(text, machines) {
    // A short name may be all of another machine's name, which then is what it means.
    const kinds = [({ hostname }) => hostname, ({ address }) => address, ({ hostname }) => hostname.split(".")[0]];
    const names = kinds.map((nameOf) => byName(machines, nameOf));
    const found = new Set(), blocked = new Set(), ambiguous = new Set(), missing = new Set();
    for (const word of inHalfWidth(text).split(BETWEEN_NAMES).filter(Boolean).flatMap(expand)) {
      const [name, port] = withoutPort(word.toLowerCase());
      const exact = (names.map((named) => named.get(name)).find(Boolean) ?? [])
        .filter((machine) => port === undefined || machine.port === +port);
      if (exact.length === 0) missing.add(word);
      else if (exact.length > 1) ambiguous.add(`${word} (${exact.map((machine) => machine.hostname).join(" / ")})`);
      else if (exact[0].blocked) blocked.add(`${exact[0].hostname} (${exact[0].word.toLowerCase()})`);
      else found.add(exact[0]);
    }
    return { found: [...found], blocked: [...blocked], ambiguous: [...ambiguous], missing: [...missing] };
  }

  // ---- The choice: one field of the form, and one for each other way to name a machine ----
  function choiceOf(machines) {
    const ids = new Map();
    for (const { id, on, other, otherOn } of machines) {
      if (on) put(ids, "machines", id);
      if (otherOn) put(ids, other, id);
    }
    return new Map([...ids].map(([name, some]) => [name, toText(some)]));
  }

  // ---- The other fields of a form[data-keep], as text by name: not hidden ones, and not the business that the list is of ----
  function fieldsOf(form) {
    const isKept = ({ name, type }) => name && name !== "business" && !["hidden", "submit"].includes(type);
    const valueOf = ({ type, checked, value }) => (type !== "checkbox" ? value : checked ? "True" : "False");
    const fields = "keep" in form.dataset ? [...form.elements].filter(isKept) : [];
    return Object.fromEntries(fields.map((field) => [field.name, valueOf(field)]));
  }

  function restore(form) {
    const kept = cameBack() && "keep" in form.dataset ? history.state?.fields : undefined;
    for (const [name, value] of Object.entries(kept ?? {})) {
      const field = form.elements[name];
      if (field?.type === "checkbox") field.checked = value === "True";
      else if (field) field.value = value;
    }
  }

  // Sends the choice with the form. Whoever comes back finds what was chosen, if what this returns is called on changes,
  // and what was typed. A page that answers what was sent becomes one that a browser need not ask to send again for.
  function carry(form, machines) {
    restore(form);
    form.addEventListener("formdata", ({ formData }) => {
      for (const [name, value] of choiceOf(machines)) formData.append(name, value);
    });
    let timer = 0;
    const keep = () => {
      clearTimeout(timer);
      const machinesNow = Object.fromEntries(choiceOf(machines));
      const revision = form.elements.revision?.value;
      history.replaceState({ ...history.state, machines: machinesNow, fields: fieldsOf(form), revision }, "");
    };
    const keepSoon = () => { // browsers take only so many of these in a row
      clearTimeout(timer);
      timer = setTimeout(keep, 300);
    };
    form.addEventListener("submit", keep);
    form.addEventListener("input", keepSoon);
    if (form.dataset.keep === "sent") keep();
    return keepSoon;
  }

  return { natural, put, readMachines, inHalfWidth, readPasted, carry };
})();
