// A form that was sent is known when somebody comes back to it: by its key, though the page is made anew.
// Another business has other machines: the page is asked for again, with what was typed kept in its fields.
"use strict";

(() => {
  const key = document.querySelector("input[name=key]");
  if (key && history.state?.key) key.value = history.state.key;
  else if (key) history.replaceState({ ...history.state, key: key.value }, "");

  const business = document.getElementById("id_business");
  if (!business || business.disabled) return;
  const fields = ["title", "version", "remark", "plan_pre_release", "plan_gray_release"].map((name) =>
    document.getElementById(`id_${name}`),
  );
  // In this tab and not in the address, which has too little room and is kept in logs.
  const typed = JSON.parse(sessionStorage.getItem("new-job") || "{}");
  if (sessionStorage.getItem("new-job")) business.focus(); // arrow keys go on among the businesses
  sessionStorage.removeItem("new-job");
  for (const field of fields) if (!field.value && typed[field.id]) field.value = typed[field.id];
  business.addEventListener("change", () => {
    sessionStorage.setItem("new-job", JSON.stringify(Object.fromEntries(fields.map((field) => [field.id, field.value]))));
    location.search = new URLSearchParams({ business: business.value });
  });
  // Safari goes back to the choice that led away; the list is of the one that the page came with.
  window.addEventListener("pageshow", () => {
    for (const option of business.options) option.selected = option.defaultSelected;
  });
})();
