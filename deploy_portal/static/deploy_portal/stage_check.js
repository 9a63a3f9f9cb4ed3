// The check page answers what was sent. Forward and Reload get the form that led to it, with all that was sent, where a
// browser would ask whether to send it again.
"use strict";

(() => {
  const valuesOf = (css) => Object.fromEntries([...document.querySelectorAll(css)].map(({ name, value }) => [name, value]));
  history.replaceState({ machines: valuesOf("[data-kept]"), fields: valuesOf("#start :is([type=hidden], textarea)[id^=id_]") }, "");
})();
