// What is empty is left out of the address.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  for (const form of document.querySelectorAll("form.filters")) {
    form.addEventListener("submit", () => {
      const empty = [...form.elements].filter((each) => each.name && !each.value.trim());
      for (const each of empty) each.disabled = true;
      // The browser goes back to this page as it was.
      setTimeout(() => {
        for (const each of empty) each.disabled = false;
      });
    });
  }
});
