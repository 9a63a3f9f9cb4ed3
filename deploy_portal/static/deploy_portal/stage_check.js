// The check page answers what was sent. Forward and Reload get the form that led to it, with its choice, where a browser
// would ask whether to send it again.
"use strict";

(() => {
  const kept = [...document.querySelectorAll("[data-kept]")].map(({ name, value }) => [name, value]);
  history.replaceState({ machines: Object.fromEntries(kept) }, "");
})();
