// Another business has other machines: the page is asked for again, with what was typed kept in its fields.
"use strict";

(() => {
  const business = document.getElementById("id_business");
  if (!business || business.disabled) return;
  const kept = ["title", "version", "remark"];
  const asked = new URLSearchParams(location.search);
  for (const name of kept) {
    const field = document.getElementById(`id_${name}`);
    if (!field.value && asked.has(name)) field.value = asked.get(name);
  }
  business.addEventListener("change", () => {
    const wanted = new URLSearchParams({ business: business.value });
    for (const name of kept) wanted.set(name, document.getElementById(`id_${name}`).value);
    location.search = wanted;
  });
})();
