// Dark or light, as somebody chose; else as the system has it. Runs before the page is drawn.
"use strict";
(() => {
  const KEY = "bedrock-guard-theme";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  function stored() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // a browser that keeps nothing
    }
  }

  function current() {
    return root.dataset.theme || (system.matches ? "dark" : "light");
  }

  root.dataset.scripts = "on";
  const known = stored();
  if (known === "dark" || known === "light") root.dataset.theme = known;

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = () => {
      button.textContent = current() === "dark" ? "Light" : "Dark";
      button.setAttribute("aria-label", `Show in ${button.textContent.toLowerCase()} colours`);
    };
    const tell = () => {
      label();
      document.dispatchEvent(new Event("themechange"));
    };
    button.addEventListener("click", () => {
      root.dataset.theme = current() === "dark" ? "light" : "dark";
      try {
        localStorage.setItem(KEY, root.dataset.theme);
      } catch {
        // It lasts as long as the page.
      }
      tell();
    });
    system.addEventListener("change", tell);
    label();
    button.hidden = false;
  });
})();
