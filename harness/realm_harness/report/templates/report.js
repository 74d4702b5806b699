"use strict";
// Filters the cases and opens the one that the address names. Without this script every case is shown.
(() => {
  const form = document.getElementById("filter");
  const cases = [...document.querySelectorAll("details.case")];

  const openTarget = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.matches("details.case")) {
      target.hidden = false;
      target.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", openTarget);
  openTarget();

  // Closed details do not print; open all while printing and put them back.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details.failed:not([open]), details.non_strict:not([open])")];
    closed.forEach((element) => { element.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((element) => { element.open = false; }));

  if (!form) return;
  form.hidden = false;
  const find = document.getElementById("find");
  const apply = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = new Set([...form.querySelectorAll("input:checked")].map((box) => box.value));
    let shown = 0;
    for (const element of cases) {
      const text = element.textContent.toLowerCase();
      element.hidden = !(wanted.has(element.dataset.verdict) && words.every((word) => text.includes(word)));
      shown += element.hidden ? 0 : 1;
    }
    for (const chapter of document.querySelectorAll(".chapter")) {
      chapter.hidden = !chapter.querySelector("details.case:not([hidden])");
    }
    document.getElementById("shown").textContent = `${shown} of ${cases.length} cases`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();
