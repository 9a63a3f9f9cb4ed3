// The keys of every page: "/" leads to its search, "?" opens the list of them all, which is templates/_keys.html. Both
// can be turned off there, for who dictates or strikes keys unmeant.
"use strict";

(() => {
  const dialog = document.getElementById("keys");
  const box = dialog.querySelector("input"); // ticked while the keys are on
  let from = null; // what had the focus before the list

  function showHints() {
    for (const hint of document.querySelectorAll("[data-keys-hint]")) hint.hidden = !box.checked;
  }

  function recall() {
    try {
      box.checked = localStorage.getItem("keys") !== "off";
    } catch {} // a browser that keeps nothing throws: what the box says holds for this page
    showHints();
  }

  function toggle() {
    if (dialog.open) return dialog.close();
    from = document.activeElement;
    dialog.showModal();
  }

  const isTyping = (element) =>
    element.isContentEditable || element.matches("input:not([type=checkbox], [type=radio]), textarea, select");
  const search = () =>
    [...document.querySelectorAll("input[type=search]")].find((field) => field.getClientRects().length > 0);

  document.addEventListener("keydown", (event) => {
    if (!box.checked || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.isComposing || event.keyCode === 229 || isTyping(event.target)) return; // 229: an input method has the key
    const field = event.key === "/" && !dialog.open ? search() : null;
    if (event.key !== "?" && !field) return;
    event.preventDefault(); // the field would get it, or Firefox searches the page
    if (!field) return toggle();
    field.focus();
    field.select();
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-keys]")) toggle();
  });

  // The browser gives the focus back by itself, but not to what a poll has swapped meanwhile.
  dialog.addEventListener("close", () => {
    if (!from.isConnected) document.getElementById(from.id)?.focus({ preventScroll: true });
  });

  box.addEventListener("change", () => {
    try {
      localStorage.setItem("keys", box.checked ? "on" : "off");
    } catch {}
    showHints();
  });

  recall();
  // Turned off in another tab, or on the page that somebody comes back from.
  for (const name of ["storage", "pageshow"]) window.addEventListener(name, recall);
})();
